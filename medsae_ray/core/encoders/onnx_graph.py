"""The graph of an ONNX model, read without its weights: external files, layout, inner tensors.

Weights may lie in other files ("external data"), which the graph names by a path from its own folder. They decide an
embedding as much as the graph does.
"""

import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medsae_ray.errors import EncoderError

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_PASSING = ("Identity", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""The operations that change only the form."""
_SHARES = ("Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Hardmax")
_LINEAR = ("Gemm", "MatMul", "Add", "Conv")
_NAMED = re.compile(r"logit|prob|softmax|sigmoid|scores|predict", re.IGNORECASE)
_FEW = 20
"""The most dimensions of an affine last layer that are taken for classes instead of an embedding."""
_SHOWN = 6
"""The number of tensors in a message."""
_FLOATS = (1, 10, 11)
"""The codes of float32, float16 and float64 in TensorProto.DataType."""


def read_graph(path: Path) -> "ModelProto":
    """Read the model without its external data. EncoderError if it is not a model."""
    try:
        import onnx
    except ImportError as error:
        raise EncoderError("ONNX models are read with the package onnx, which is not here: pip install onnx") from error
    try:
        model = onnx.load(str(path), format="protobuf", load_external_data=False)
    except Exception as error:  # protobuf's own, and OSError
        raise EncoderError(
            f"weights {path}: cannot load it, it is no ONNX model or damaged ({type(error).__name__}: {error})"
        ) from error
    if not model.graph.node:
        raise EncoderError(f"weights {path}: cannot load it, it is no ONNX model: its graph has no operation")
    return model


def outside(model: "ModelProto", where: str) -> list[str]:
    """Return the external files of the model, as paths from its folder, sorted. EncoderError for one outside the
    folder."""
    return sorted({location for location, _ in _references(model, where)})


def outside_files(path: Path, model: "ModelProto | None" = None) -> dict[str, Path]:
    """Return those files by their location. EncoderError for one that is missing, or shorter than the graph
    requires."""
    needed: dict[str, int] = {}
    for location, end in _references(model or read_graph(path), f"weights {path}"):
        needed[location] = max(end, needed.get(location, 0))
    found = {location: path.parent / location for location in sorted(needed)}
    for location, file in found.items():
        if not file.is_file():
            raise EncoderError(
                f"weights {path}: its weights lie in {location}, which is not beside it; both files are needed"
            )
        if file.stat().st_size < needed[location]:
            raise EncoderError(
                f"weights {path}: {location} has {file.stat().st_size} bytes, {needed[location]} are needed; it is "
                "damaged, or of another model"
            )
    return found


def _references(model: "ModelProto", where: str) -> Iterator[tuple[str, int]]:
    """Yield (location, end of the bytes read from it) of every external tensor."""
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    for tensor in _tensors(model):
        if uses_external_data(tensor):
            try:
                about = ExternalDataInfo(tensor)
            except ValueError as error:
                raise EncoderError(f"{where}: says wrongly where its weights lie ({error})") from error
            location = PurePosixPath(about.location or "")
            if not location.parts or location.is_absolute() or ".." in location.parts or "\\" in about.location:
                raise EncoderError(f"{where}: weights at {about.location!r}; only files of the model's folder are read")
            yield str(location), (about.offset or 0) + (about.length or 0)


def _tensors(message: Any) -> Iterator[Any]:
    """Yield every tensor below a message: of graphs, attributes, subgraphs and functions, and the parts of sparse
    ones."""
    from onnx import TensorProto

    for field, value in message.ListFields():
        if field.message_type is not None:
            for item in [value] if hasattr(value, "ListFields") else value:
                if isinstance(item, TensorProto):
                    yield item
                else:
                    yield from _tensors(item)


def cut(model: "ModelProto", name: str) -> "ModelProto | None":
    """Cut out the part of the model that makes the tensor `name`, as its only output; None if there is no such
    tensor."""
    from onnx import ModelProto, ValueInfoProto

    part = ModelProto()
    part.CopyFrom(model)
    graph = part.graph
    if not any(name in node.output for node in graph.node):
        return None
    stated = [info for info in (*graph.output, *graph.value_info) if info.name == name]
    kept, needed = [], {name}
    for node in reversed(graph.node):  # an operation comes after all that it takes
        if needed & set(node.output):
            kept.append(node)
            needed |= set(_taken(node))
    for field, left in (
        (graph.node, list(reversed(kept))),
        (graph.input, [info for info in graph.input if info.name in needed]),
        (graph.initializer, [tensor for tensor in graph.initializer if tensor.name in needed]),
        (graph.output, stated[:1] or [ValueInfoProto(name=name)]),
    ):
        copies = [type(item).FromString(item.SerializeToString()) for item in left]
        del field[:]
        field.extend(copies)
    return part


def _taken(node: "NodeProto") -> Iterator[str]:
    """Yield the inputs of an operation, including those that its inner graphs take from around them."""
    yield from node.input
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                yield from _taken(inner)
            yield from (output.name for output in graph.output)


def candidates(model: "ModelProto") -> str:
    """List the tensors near the end that may be an embedding, the last first: floating point numbers [N, D]."""
    import onnx

    try:
        model = onnx.shape_inference.infer_shapes(model)
    except Exception:  # operations of others, and models above protobuf's 2 GB
        return ", ".join(repr(node.output[0]) for node in list(reversed(model.graph.node))[:_SHOWN])
    graph = model.graph
    known = {info.name: info.type.tensor_type for info in (*graph.value_info, *graph.output)}
    found = []
    for name in (name for node in reversed(graph.node) for name in node.output if name in known):
        kind = known[name]
        sizes = [dim.dim_value or None for dim in kind.shape.dim]
        flat = len(sizes) >= 2 and (sizes[1] or 0) > 1 and all(size == 1 for size in sizes[2:])
        if kind.elem_type in _FLOATS and flat and name not in found:
            found.append(name)
    shown = [f"{name!r} [N, {math.prod(d.dim_value for d in known[name].shape.dim[1:])}]" for name in found[:_SHOWN]]
    return ", ".join(shown) or "none with known sizes"


def takes_channels_last(model: "ModelProto", name: str) -> bool:
    """Return True if the input `name` is first transposed from channels last to channels first."""
    users = [node for node in model.graph.node if name in node.input]
    while len(users) == 1 and users[0].op_type in ("Cast", "Identity"):
        users = [node for node in model.graph.node if users[0].output[0] in node.input]
    orders = [_integers(node, "perm") for node in users if node.op_type == "Transpose"]
    return bool(users) and len(orders) == len(users) and all(order == [0, 3, 1, 2] for order in orders)


def _integers(node: "NodeProto", name: str) -> list[int]:
    return next((list(attribute.ints) for attribute in node.attribute if attribute.name == name), [])


def score_signs(model: "ModelProto", name: str, dim: int) -> str | None:
    """Return the reason why the output `name` of `dim` numbers looks like class scores instead of an embedding, else
    None."""
    makers = {output: node for node in model.graph.node for output in node.output}
    node = makers.get(name)
    while node is not None and node.op_type in _PASSING and node.input[0] in makers:
        node = makers[node.input[0]]
    kind = node.op_type if node is not None else ""
    if kind in _SHARES:
        return f"it is what {kind} gives"
    if dim <= _FEW and kind in _LINEAR:
        return f"it has {dim} dimensions and no activation behind its last layer"
    return "its name says so" if _NAMED.search(name) else None


def named(arguments: Iterable[Any]) -> str:
    """Format the inputs or outputs of a session, with their types and shapes."""
    return ", ".join(f"{argument.name!r} {argument.type} {argument.shape}" for argument in arguments)
