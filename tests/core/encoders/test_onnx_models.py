"""ONNX models as people have them: weights beside the graph, channels last, classifiers cut before their end."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto

from medsae_ray.core.artifacts.local_copies import local_copy
from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.checkpoint import content_hash
from medsae_ray.core.encoders.onnx import OnnxOptions
from medsae_ray.errors import EncoderError
from tests.core.encoders import small_onnx as small
from tests.support.web import web

ONNX = OnnxOptions(kind="onnx", size=8)
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3), dtype=np.uint8)


def embedded(path: Path | str, **options: Any) -> np.ndarray:
    return load_encoder("onnx", str(path), size=8, **options).embed(PIXELS)


def inside(path: Path, name: str) -> np.ndarray:
    """What the whole model makes of the pixels in its tensor `name`, by a session of its own."""
    import onnx

    model = onnx.load(str(path))
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x_NCHW = PIXELS.transpose(0, 3, 1, 2).astype(np.float32) / np.float32(255)
    feed = {session.get_inputs()[0].name: x_NCHW} | {
        other.name: np.zeros((5, 5), np.float32) for other in session.get_inputs()[1:]
    }
    return np.asarray(session.run([name], feed)[0])


def test_weights_beside_the_graph_are_part_of_the_hash(tmp_path: Path) -> None:
    first, other = small.beside(tmp_path / "a", seed=1), small.beside(tmp_path / "b", seed=2)
    assert first.read_bytes() == other.read_bytes()
    assert content_hash(first) != content_hash(other) != content_hash(first, onnx=False)
    moved = shutil.copytree(tmp_path / "a", tmp_path / "c") / "m.onnx"
    assert content_hash(moved) == content_hash(first)
    renamed = moved.rename(moved.with_name("model.bin"))
    assert ONNX.content_hash(renamed) == content_hash(first)
    whole = small.classifier(tmp_path / "whole.onnx", seed=1)
    assert content_hash(whole) == content_hash(whole, onnx=False)
    np.testing.assert_array_equal(embedded(first), embedded(whole))


@pytest.mark.parametrize("file", ["w.bin", "parts/constant.bin", "branch.bin"])
def test_a_tensor_anywhere_in_the_graph_may_lie_outside(tmp_path: Path, file: str) -> None:
    path = small.everywhere(tmp_path / "m")
    before, x = content_hash(path), embedded(path)
    whole = (tmp_path / "m" / file).read_bytes()
    (tmp_path / "m" / file).write_bytes(whole[:-4] + b"\0\0\0\x3f")
    assert content_hash(path) != before and np.abs(embedded(path) - x).max() > 0
    (tmp_path / "m" / file).write_bytes(whole[:-4])
    for call in (content_hash, embedded):
        with pytest.raises(EncoderError, match=rf"{file} has \d+ bytes, \d+ are needed"):
            call(path)
    (tmp_path / "m" / file).unlink()
    for call in (content_hash, embedded):
        with pytest.raises(EncoderError, match=f"its weights lie in {file}, which is not beside it"):
            call(path)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "..\\w.bin"])
def test_weights_beyond_the_models_folder_are_refused(tmp_path: Path, location: str) -> None:
    import onnx

    path = small.beside(tmp_path / "m")
    model = onnx.load(str(path), load_external_data=False)
    for tensor in model.graph.initializer:
        next(entry for entry in tensor.external_data if entry.key == "location").value = location
    path.write_bytes(model.SerializeToString())
    for call in (content_hash, embedded):
        with pytest.raises(EncoderError, match="only files of the model's folder are read"):
            call(path)


@pytest.mark.parametrize(("key", "text"), [("offset", "abc"), ("offset", "-4"), ("length", "9" * 20)])
def test_places_that_are_none_are_refused(tmp_path: Path, key: str, text: str) -> None:
    import onnx

    path = small.beside(tmp_path / "m")
    model = onnx.load(str(path), load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = text if entry.key == key else entry.value
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EncoderError, match=r"says wrongly where|are needed"):
        content_hash(path)


def test_a_folder_stands_for_the_one_model_in_it(tmp_path: Path, home: Path) -> None:
    path = small.beside(tmp_path / "m")
    for weights in (str(tmp_path / "m"), f"file://{tmp_path / 'm'}"):
        np.testing.assert_array_equal(embedded(weights), embedded(path))
        assert content_hash(ONNX.locate(weights)) == content_hash(path)
    small.classifier(tmp_path / "m" / "other.onnx")
    with pytest.raises(EncoderError, match=r"2 \.onnx files, name one: m\.onnx, other\.onnx"):
        embedded(tmp_path / "m")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home" / ".cache"))
    (tmp_path / "home" / ".cache" / "medsae_ray").mkdir(parents=True)
    local_copy.cache_clear()
    return tmp_path / "home"


def test_weights_beside_the_graph_come_along_from_a_store(tmp_path: Path, home: Path) -> None:
    for number, path in enumerate((small.everywhere(tmp_path / "far"), small.beside(tmp_path / "other", seed=3))):
        copy = ONNX.locate(ONNX.local(f"file://{path}"))
        assert home in copy.parents and content_hash(copy) == content_hash(path)
        np.testing.assert_array_equal(embedded(f"file://{path}"), embedded(path))
        assert ONNX.local(f"file://{path}") == str(copy)
        assert len(list((home / ".cache" / "medsae_ray").glob("*-onnx"))) == number + 1
    alone = small.classifier(tmp_path / "alone.onnx")
    assert ONNX.local(f"file://{alone}") == local_copy(f"file://{alone}")
    local_copy.cache_clear()
    (tmp_path / "other" / "m.onnx.data").unlink()
    with pytest.raises(EncoderError, match=r"m\.onnx\.data: no such file"):
        ONNX.local(f"file://{tmp_path / 'other' / 'm.onnx'}")
    with pytest.raises(EncoderError, match=r"nothing\.onnx: no such file"):
        ONNX.local(f"file://{tmp_path / 'nothing.onnx'}")


def test_weights_beside_the_graph_come_along_from_the_web(tmp_path: Path, home: Path) -> None:
    path = small.beside(tmp_path / "far")
    with web(tmp_path) as server:
        url = server.put("/a/m.onnx?download=true", path.read_bytes())
        server.put("/a/m.onnx.data?download=true", (path.parent / "m.onnx.data").read_bytes())
        np.testing.assert_array_equal(embedded(url), embedded(path))
        asked = list(server.asked)
        assert content_hash(ONNX.locate(url)) == content_hash(path)
        checked = f"{url}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}"
        assert ONNX.locate(checked) == ONNX.locate(url)
    assert asked == server.asked == ["/a/m.onnx?download=true", "/a/m.onnx.data?download=true"]


LAYOUTS: list[tuple[list[Any], list[int], dict[str, Any]]] = [
    (["n", 8, 8, 3], [1, 2], {}),
    ([None, None, None, 3], [1, 2], {}),
    ([1, 8, 8, 3], [1, 2], {}),
    (["n", 8, 8, "c"], [1, 2], {}),
    (["n", "h", "w", "c"], [1, 2], {"layout": "channels_last"}),
    (["n", 3, 8, 8], [2, 3], {}),
    (["n", 3, None, None], [2, 3], {}),
    (["n", "c", 8, 8], [2, 3], {}),
    ([-1, 3, -1, -1], [2, 3], {}),
    (["n", "c", "h", "w"], [2, 3], {}),
]


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE])
@pytest.mark.parametrize(("shape", "axes", "options"), LAYOUTS)
def test_both_layouts_give_the_means_of_channels(
    tmp_path: Path, shape: list[Any], axes: list[int], options: dict[str, Any], kind: int
) -> None:
    path = small.pooled(tmp_path / "m.onnx", shape, axes, kind)
    found = embedded(path, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 2.0], **options)
    wanted = np.tanh(((PIXELS / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]).mean((1, 2)))
    np.testing.assert_allclose(found, wanted, atol=2e-3 if kind == TensorProto.FLOAT16 else 1e-5)


def test_a_shape_that_tells_nothing_is_read_from_how_the_graph_begins(tmp_path: Path) -> None:
    path = small.pooled(tmp_path / "m.onnx", [None, None, None, None], [2, 3], transpose=True)
    np.testing.assert_allclose(embedded(path), np.tanh((PIXELS / 255).mean((1, 2))), atol=1e-5)


def test_grey_goes_to_one_channel_and_is_repeated_for_three_whatever_the_layout(tmp_path: Path) -> None:
    grey = PIXELS[..., 0]
    for channels in (1, 3):
        path = small.pooled(tmp_path / f"{channels}.onnx", ["n", 8, 8, channels], [1, 2])
        found = load_encoder("onnx", str(path), size=8, channels="L").embed(grey)
        np.testing.assert_allclose(found, np.tanh((grey / 255).mean((1, 2)))[:, None].repeat(channels, 1), atol=1e-5)


def test_a_model_of_bytes_takes_pixels_as_they_are(tmp_path: Path) -> None:
    path = small.classifier(tmp_path / "m.onnx", kind=TensorProto.UINT8)
    plain = small.classifier(tmp_path / "f.onnx")
    np.testing.assert_allclose(embedded(path), embedded(plain, std=1 / 255), rtol=1e-3)
    with pytest.raises(EncoderError, match="takes pixels as they are"):
        embedded(path, mean=0.5)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (["n", 240, 240, 3], {}, r"channels last: it does not take size 8, set the option size to 240"),
        (["n", 3, 240, 240], {}, r"channels first: it does not take size 8, set the option size to 240"),
        (["n", 8, 8, 1], {}, r"channels last: it does not take channels 'RGB' but 1 of them; set .* to L"),
        (["n", 8, 8, 4], {}, "does not take"),
        (["n", 8, 10, 3], {}, "images of 8 x 10 pixels; only squares"),
        (["n", 8, 8, 3], {"layout": "channels_first"}, "channels first"),
        (["n", 8, 8, 3], {"layout": "nhwc"}, "layout is 'nhwc'; it may be channels_first or channels_last"),
        (["n", 192], {}, r"\[N, C, S, S\] \(channels first\) or \[N, S, S, C\] \(channels last\)"),
    ],
)
def test_an_input_that_does_not_fit_is_refused_with_its_layout(
    tmp_path: Path, shape: list[Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(EncoderError, match=message):
        embedded(small.pooled(tmp_path / "m.onnx", shape, [1] if len(shape) == 2 else [1, 2]), **options)


def test_a_fixed_batch_of_channels_last_is_filled_up(tmp_path: Path) -> None:
    fixed = small.pooled(tmp_path / "fixed.onnx", [2, 8, 8, 3], [1, 2])
    np.testing.assert_allclose(embedded(fixed), np.tanh((PIXELS / 255).mean((1, 2))), atol=1e-5)


@pytest.mark.parametrize("outside", [False, True])
@pytest.mark.parametrize("name", ["embedding", "hidden", "logits", "flat"])
def test_any_tensor_inside_may_be_the_embedding(tmp_path: Path, name: str, outside: bool) -> None:
    path = small.beside(tmp_path) if outside else small.classifier(tmp_path / "m.onnx")
    np.testing.assert_allclose(embedded(path, output_name=name), inside(path, name), rtol=1e-5, atol=1e-6)


def test_an_output_that_is_not_there_is_answered_with_tensors_that_may_be_meant(tmp_path: Path) -> None:
    path = small.classifier(tmp_path / "m.onnx")
    for wrong in ("features", "w", "x"):
        with pytest.raises(
            EncoderError, match=rf"output '{wrong}' does not exist; the model has y, and inside it"
        ) as e:
            embedded(path, output_name=wrong)
        assert "'logits' [N, 2], 'embedding' [N, 16], 'hidden' [N, 16]" in str(e.value)


def test_a_feature_map_is_refused_and_says_that_nothing_is_pooled_here(tmp_path: Path) -> None:
    path = small.pooled(tmp_path / "m.onnx", ["n", 3, 8, 8], [2, 3])
    with pytest.raises(EncoderError, match=r"\[1, 3, 8, 8\] .*a feature map or tokens, which are not pooled here"):
        embedded(path, output_name="float")


def test_inputs_that_the_output_does_without_are_left_out_and_others_are_named(tmp_path: Path) -> None:
    path = small.two_towers(tmp_path / "m.onnx")
    np.testing.assert_allclose(embedded(path, output_name="image_embeds"), inside(path, "image_embeds"), rtol=1e-5)
    with pytest.raises(EncoderError, match=r"2 inputs, 'pixel_values' .*, 'tokens' .*one image input is needed"):
        embedded(path, output_name="similarity")
    with pytest.raises(EncoderError, match=r"'tokens' is tensor\(float\) \['n', 5\]"):
        embedded(path, output_name="text_embeds")
    with pytest.raises(EncoderError, match="output must be chosen by name"):
        embedded(path)
    with pytest.raises(EncoderError, match="input 'image' does not exist; the model has pixel_values"):
        embedded(path, output_name="image_embeds", input_name="image")


@pytest.mark.parametrize(
    ("made", "options", "sign"),
    [
        ({}, {}, "it is what Softmax gives"),
        ({"end": "Sigmoid", "classes": 14}, {}, "it is what Sigmoid gives"),
        ({"end": None, "classes": 14}, {}, "it has 14 dimensions and no activation"),
        ({"classes": 200}, {"output_name": "logits"}, "its name says so"),
        ({"end": None, "classes": 200}, {}, None),
        ({}, {"output_name": "embedding"}, None),
    ],
)
def test_an_output_that_looks_like_scores_of_classes_is_noted(
    tmp_path: Path, made: dict[str, Any], options: dict[str, Any], sign: str | None
) -> None:
    path = str(small.classifier(tmp_path / "m.onnx", **made))
    notes = replace(ONNX, **options).notes(path, embedded(path, **options).shape[1])
    if sign is None:
        assert not notes
    else:
        assert sign in notes["class_scores"] and "'embedding' [N, 16]" in notes["class_scores"]


def test_integers_are_no_embedding(tmp_path: Path) -> None:
    from onnx import helper

    nodes = [helper.make_node("Flatten", ["x"], ["f"]), helper.make_node("ArgMax", ["f"], ["y"], axis=1)]
    graph = helper.make_graph(
        nodes, "g", [small.value("x", ["n", 3, 8, 8])], [small.value("y", ["n", 1], TensorProto.INT64)]
    )
    with pytest.raises(EncoderError, match="of int64 for 1 images: no embedding"):
        embedded(small.saved(tmp_path / "m.onnx", graph))
