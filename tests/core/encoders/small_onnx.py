"""Small ONNX models as people have them: weights beside the graph, channels last, classifiers, several inputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
S = 8


def value(name: str, shape: list[Any], kind: int = FLOAT) -> Any:
    return helper.make_tensor_value_info(name, kind, shape)


def tensor(name: str, *shape: int, seed: int = 0) -> Any:
    drawn = np.random.default_rng([seed, len(name), *name.encode()]).normal(size=shape)
    return numpy_helper.from_array(drawn.astype(np.float32), name)


def saved(path: Path, graph: Any, **how: Any) -> Path:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, str(path), **how)
    return path


def classifier(
    path: Path,
    seed: int = 0,
    classes: int = 2,
    end: str | None = "Softmax",
    shape: list[Any] | None = None,
    kind: int = FLOAT,
    **how: Any,
) -> Path:
    """Pixels -> a hidden layer "hidden" [N, 16] -> relu "embedding" -> "logits" -> what `end` makes of them, "y"."""
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=FLOAT)] if kind != FLOAT else []
    nodes += [
        helper.make_node("Flatten", ["float" if nodes else "x"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["embedding"]),
        helper.make_node("Gemm", ["embedding", "v"], ["logits" if end else "y"]),
    ]
    nodes += [helper.make_node(end, ["logits"], ["y"])] if end else []
    weights = [tensor("w", 3 * S * S, 16, seed=seed), tensor("v", 16, classes, seed=seed)]
    inputs = [value("x", shape or ["n", 3, S, S], kind)]
    return saved(path, helper.make_graph(nodes, "g", inputs, [value("y", ["n", classes])], weights), **how)


def pooled(path: Path, shape: list[Any], axes: list[int], kind: int = FLOAT, transpose: bool = False) -> Path:
    """The mean over two axes: [N, C] with axes (2, 3) for channels first, (1, 2) for channels last."""
    nodes = [helper.make_node("Cast", ["x"], ["float"], to=FLOAT)]
    if transpose:
        nodes.append(helper.make_node("Transpose", ["float"], ["turned"], perm=[0, 3, 1, 2]))
    nodes += [
        helper.make_node("ReduceMean", [nodes[-1].output[0]], ["mean"], axes=axes, keepdims=0),
        helper.make_node("Tanh", ["mean"], ["y"]),
    ]
    return saved(path, helper.make_graph(nodes, "g", [value("x", shape, kind)], [value("y", [None, None])]))


def beside(folder: Path, seed: int = 0, **how: Any) -> Path:
    """A classifier whose weights lie in other files."""
    folder.mkdir(parents=True, exist_ok=True)
    how = {"save_as_external_data": True, "size_threshold": 0, "location": "m.onnx.data"} | how
    return classifier(folder / "m.onnx", seed, **how)


def everywhere(folder: Path, seed: int = 0) -> Path:
    """Weights outside in an initializer, a constant's attribute, a branch of an If and a sparse tensor's values, each
    in a file of its own, one of them in a subfolder and behind other bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "parts").mkdir(exist_ok=True)
    rng = np.random.default_rng(seed)

    def outside(name: str, shape: list[int], location: str, offset: int = 0) -> Any:
        values = rng.normal(size=shape).astype(np.float32)
        (folder / location).write_bytes(bytes(offset) + values.tobytes())
        made = TensorProto(name=name, dims=shape, data_type=FLOAT, data_location=TensorProto.EXTERNAL)
        entries = {"location": location, "length": str(values.nbytes)} | ({"offset": str(offset)} if offset else {})
        for key, text in entries.items():
            made.external_data.add(key=key, value=text)
        return made

    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["b"], value=outside("", [4], "branch.bin"))], "b", [], [value("b", [4])]
    )
    nodes = [
        helper.make_node("Flatten", ["x"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["h"]),
        helper.make_node("Constant", [], ["c"], value=outside("", [4], "parts/constant.bin", offset=4096)),
        helper.make_node("Add", ["h", "c"], ["i"]),
        helper.make_node("If", ["yes"], ["d"], then_branch=branch, else_branch=branch),
        helper.make_node("Add", ["i", "d"], ["s"]),
        helper.make_node("Tanh", ["s"], ["y"]),
    ]
    weights = [outside("w", [3 * S * S, 4], "w.bin"), numpy_helper.from_array(np.array(True), "yes")]
    return saved(
        folder / "m.onnx", helper.make_graph(nodes, "g", [value("x", ["n", 3, S, S])], [value("y", ["n", 4])], weights)
    )


def two_towers(path: Path) -> Path:
    """An image and a text input; "image_embeds" needs the image alone, "similarity" both, and so does "text_embeds"."""
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("MatMul", ["flat", "w"], ["image_embeds"]),
        helper.make_node("MatMul", ["tokens", "u"], ["text_embeds"]),
        helper.make_node("Mul", ["image_embeds", "text_embeds"], ["similarity"]),
    ]
    inputs = [value("pixel_values", ["n", 3, S, S]), value("tokens", ["n", 5])]
    outputs = [value(name, ["n", 24]) for name in ("similarity", "text_embeds", "image_embeds")]
    weights = [tensor("w", 3 * S * S, 24), tensor("u", 5, 24)]
    return saved(path, helper.make_graph(nodes, "g", inputs, outputs, weights))
