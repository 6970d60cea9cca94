"""Small datasets and models that tests make for themselves: a folder of images with a table, and an ONNX encoder."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medsae_ray.config import Recipe, parse_recipe

SIZE = 16
DIM = 12


def onnx_encoder(path: Path, seed: int = 0) -> Path:
    """pixel_values [N, 3, 16, 16] -> tanh of a random projection, [N, 12]."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = np.random.default_rng(seed).normal(size=(3 * SIZE * SIZE, DIM)).astype(np.float32) / 8
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixel_values"], ["flat"], axis=1),
            helper.make_node("MatMul", ["flat", "weights"], ["projected"]),
            helper.make_node("Tanh", ["projected"], ["embedding"]),
        ],
        "encoder",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", DIM])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(path))
    return path


def table_dataset(folder: Path, images: int = 60, seed: int = 0) -> Path:
    """`images` noisy pictures, two per patient; label `bright` raises the upper half, `left` the left half."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(images):
        bright, left = (rng.random(2) < 0.4).astype(int)
        pixels = rng.normal(100, 20, (24, 24))
        pixels[:12] += 60 * bright
        pixels[:, :12] += 60 * left
        name = f"i{number:04d}.png"
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / name)
        rows.append({"path": name, "patient": f"p{number // 2}", "bright": bright, "left": left, "view": "PA"})
    table = folder / "labels.csv"
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table


def recipe_data(table: Path, weights: Path, **how: Any) -> dict[str, Any]:
    """A recipe for `table_dataset`, small enough for a test."""
    return {
        "name": "small",
        "what": {
            "dataset": {
                "kind": "table",
                "name": "small",
                "image": "path",
                "patient": "patient",
                "labels": ["bright", "left"],
                "metadata": ["view"],
            },
            "shard_rows": 8,
            "encoder": {"kind": "onnx", "size": SIZE},
            "sae": {"architecture": "batch_topk", "width": 24, "k": 3, "epochs": 30, "batch_size": 16},
            "features": {"top_images": 4, "permutations": 3},
        },
        "how": {"paths": {"table": str(table), "weights": str(weights)}, "train": {"checkpoint_epochs": 10}, **how},
    }


def recipe_of(folder: Path, **how: Any) -> Recipe:
    """The recipe, checked, for tests that compute nothing with it."""
    return parse_recipe(recipe_data(folder / "labels.csv", folder / "encoder.onnx", **how))
