"""Exported encoders: small models made here, whose right answer is arithmetic, and one real one."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.encoders import encoder_preprocess, load_encoder
from medsae_ray.core.images.decode import read_image
from medsae_ray.errors import EncoderError
from tests.support.shared import SHARED, needs_shared

onnx = pytest.importorskip("onnx")

PIXELS_NHWC = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def export(path: Path, batch: str | int = "n", channels: str | int = 3, size: str | int = 8, outputs: int = 1) -> str:
    """A model whose embedding is the mean of each channel (as [N, C, 1, 1]) and, as a second output, its maximum."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    names = ["mean", "max"][:outputs]
    nodes = [
        helper.make_node(f"Global{op}Pool", ["x"], [name]) for op, name in zip(("Average", "Max"), names, strict=False)
    ]
    source = helper.make_tensor_value_info("x", kind, [batch, channels, size, size])
    targets = [helper.make_tensor_value_info(name, kind, [batch, channels, 1, 1]) for name in names]
    graph = helper.make_graph(nodes, "pool", [source], targets)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, path)
    return str(path)


def test_pixels_are_normalised_per_channel(tmp_path: Path) -> None:
    mean, std = [0.1, 0.2, 0.3], [0.5, 0.25, 2.0]
    encoder = load_encoder("onnx", export(tmp_path / "m.onnx"), size=8, mean=mean, std=std, threads=1)
    wanted = ((PIXELS_NHWC / 255 - mean) / std).mean((1, 2))
    assert encoder.dim == 3
    np.testing.assert_allclose(encoder.embed(PIXELS_NHWC), wanted, rtol=1e-5, atol=1e-6)


def test_grey_is_repeated_for_a_model_of_three_channels(tmp_path: Path) -> None:
    grey = PIXELS_NHWC[..., 0]
    normal: dict[str, Any] = {"channels": "L", "mean": 0.5, "std": 0.5}
    three = load_encoder("onnx", export(tmp_path / "3.onnx"), size=8, **normal)
    one = load_encoder("onnx", export(tmp_path / "1.onnx", channels=1), size=8, **normal)
    assert (three.dim, one.dim) == (3, 1)
    np.testing.assert_allclose(one.embed(grey)[:, 0], (grey / 255 - 0.5).mean((1, 2)) / 0.5, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(three.embed(grey), np.repeat(one.embed(grey), 3, axis=1), rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_a_fixed_batch_is_filled_up_and_trimmed(tmp_path: Path, batch: int) -> None:
    fixed = load_encoder("onnx", export(tmp_path / "fixed.onnx", batch=batch), size=8)
    free = load_encoder("onnx", export(tmp_path / "free.onnx"), size=8)
    np.testing.assert_allclose(fixed.embed(PIXELS_NHWC), free.embed(PIXELS_NHWC), rtol=1e-6)


def test_several_outputs_must_be_chosen_from(tmp_path: Path) -> None:
    path = export(tmp_path / "two.onnx", outputs=2)
    for wrong in (None, "logits"):
        with pytest.raises(EncoderError, match="the model has mean, max"):
            load_encoder("onnx", path, size=8, output_name=wrong)
    brightest = load_encoder("onnx", path, size=8, output_name="max").embed(PIXELS_NHWC)
    np.testing.assert_allclose(brightest, PIXELS_NHWC.max((1, 2)) / 255, rtol=1e-6)


@pytest.mark.parametrize(
    ("made", "options", "message"),
    [
        ({}, {"size": 16}, "does not take size 16"),
        ({"channels": 1}, {"size": 8}, "does not take channels 'RGB'"),
        ({}, {"size": 8, "mean": [0.1, 0.2]}, "mean"),
        ({}, {"size": 8, "mean": [123.7, 116.3, 103.5]}, "units of 0..1"),
        ({}, {"size": 8, "mean": float("nan")}, "finite numbers"),
        ({}, {"size": 8, "std": float("inf")}, "finite numbers"),
        ({}, {"size": 8, "mean": "imagenet"}, "mean imagenet must be one number"),
        ({}, {"size": 8, "std": 0}, "positive"),
        ({}, {"size": 8, "fit": "squash"}, "fit"),
    ],
)
def test_options_that_the_model_does_not_take_are_refused(
    tmp_path: Path, made: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        load_encoder("onnx", export(tmp_path / "m.onnx", **made), **options)


def test_no_weights_and_damaged_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="must name"):
        load_encoder("onnx")
    (tmp_path / "x.onnx").write_bytes(b"noise")
    with pytest.raises(EncoderError, match="cannot load"):
        load_encoder("onnx", str(tmp_path / "x.onnx"))


def test_preprocess_is_known_without_the_model(tmp_path: Path) -> None:
    path = export(tmp_path / "m.onnx")
    options: dict[str, Any] = {"size": 8, "fit": "crop", "resample": "bicubic", "mean": 0.5}
    assert encoder_preprocess("onnx", "absent.onnx", **options) == load_encoder("onnx", path, **options).preprocess


@needs_shared
def test_a_real_encoder_separates_the_views_of_real_radiographs() -> None:
    path = SHARED / "data" / "encoders" / "mobilenetv2_035.onnx"
    encoder = load_encoder("onnx", str(path), mean=0.5, std=0.5, threads=1)
    folder = SHARED / "data" / "nih621"
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))[:120]
    x_ND = encoder.encode([folder / row["path"] for row in rows])
    assert x_ND.shape == (120, 1280) and np.isfinite(x_ND).all()
    is_pa = np.array([row["view"] == "PA" for row in rows])
    train, test = np.arange(0, 120, 2), np.arange(1, 120, 2)
    centres = [x_ND[train][is_pa[train] == side].mean(0) for side in (False, True)]
    distance = [((x_ND[test] - centre) ** 2).sum(1) for centre in centres]
    assert ((distance[1] < distance[0]) == is_pa[test]).mean() > 0.8


@needs_shared
def test_a_real_encoder_agrees_with_a_plain_session() -> None:
    import onnxruntime as ort

    path = SHARED / "data" / "encoders" / "squeezenet11_cxr.onnx"
    mean, std = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
    encoder = load_encoder("onnx", str(path), mean=mean.tolist(), std=std.tolist())
    image = read_image(sorted((SHARED / "data" / "nih621" / "images").iterdir())[0].read_bytes())
    grid = np.asarray(image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR), np.float32)
    x_NCHW = ((grid / 255 - mean) / std).transpose(2, 0, 1)[None]
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = session.run(None, {session.get_inputs()[0].name: x_NCHW})[0]
    np.testing.assert_allclose(encoder.encode([image]), wanted, rtol=1e-4, atol=1e-5)
