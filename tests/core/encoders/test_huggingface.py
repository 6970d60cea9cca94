"""Models through AutoModel against transformers itself in float64, and DINOv3 with its defaults."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from medsae_ray.core.encoders import encoder_preprocess, load_encoder
from medsae_ray.core.encoders.embedding import Embedder
from medsae_ray.errors import EncoderError
from tests.core.encoders.small_models import NAMES, PROCESSOR, SIDE, TINY, saved, stirred, vision

IMAGES = [Image.fromarray(p) for p in np.random.default_rng(0).integers(0, 256, (4, 40, 50, 3), dtype=np.uint8)]
PREFIX = {"vit": 1, "dinov2": 5, "clip": 1, "dinov3-vit": 5, "dinov3-convnext": 1}
"""Tokens before the patches, where there are any."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: saved(tmp_path_factory.mktemp(name), name) for name in NAMES}


def reference(name: str, **arguments: Any) -> Any:
    """What transformers makes of IMAGES, with its own pixels, in float64."""
    from transformers import ViTImageProcessorPil

    model = vision(name).double()
    processor = ViTImageProcessorPil(**PROCESSOR | {"size": arguments.pop("size", PROCESSOR["size"])})
    pixels = processor(IMAGES, return_tensors="pt")["pixel_values"].double()
    with torch.no_grad():
        return getattr(model, "vision_model", model)(pixel_values=pixels, **arguments)


def patches(name: str, hidden: torch.Tensor) -> torch.Tensor:
    if name == "convnext":
        return hidden.permute(0, 2, 3, 1).flatten(1, 2)
    return hidden[:, PREFIX.get(name, 0) :]


def assert_same(found: np.ndarray, wanted: torch.Tensor) -> None:
    assert found.dtype == np.float32 and found.shape == tuple(wanted.shape)
    scale = wanted.abs().max().item()
    np.testing.assert_allclose(found, wanted.numpy(), rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("pool", ["pooler", "cls", "mean"])
@pytest.mark.parametrize("name", NAMES)
def test_an_embedding_equals_that_of_transformers(folders: dict[str, Path], name: str, pool: str) -> None:
    if pool == "cls" and name not in PREFIX:
        with pytest.raises(EncoderError, match="no class token"):
            load_encoder("huggingface", str(folders[name]), pool=pool)
        return
    output = reference(name)
    wanted = {
        "pooler": lambda: output.pooler_output,
        "cls": lambda: output.last_hidden_state[:, 0],
        "mean": lambda: patches(name, output.last_hidden_state).mean(1),
    }[pool]()
    encoder = load_encoder("huggingface", str(folders[name]), pool=pool)
    assert encoder.dim == wanted.shape[1]
    assert_same(encoder.encode(IMAGES), wanted)


@pytest.mark.parametrize("name", NAMES)
def test_tokens_are_the_patches_of_the_last_hidden_state(folders: dict[str, Path], name: str) -> None:
    encoder = load_encoder("huggingface", str(folders[name]), pool="mean")
    pixels = np.stack([encoder.preprocess(image) for image in IMAGES])
    tokens = encoder.embed_tokens(pixels)
    wanted = patches(name, reference(name).last_hidden_state)
    assert tokens.grid == (math.isqrt(wanted.shape[1]),) * 2 and len(tokens.x[0]) > 1
    assert_same(tokens.x, wanted)
    np.testing.assert_allclose(tokens.x.mean(1), encoder.embed(pixels), rtol=1e-4, atol=1e-5)
    assert encoder.embed_tokens(pixels[:0]).x.shape == (0, *tokens.x.shape[1:])


def test_tokens_that_are_no_grid_of_patches_are_refused(tmp_path: Path) -> None:
    """YOLOS has tokens for detections behind its patches."""
    import transformers as hf

    tiny = TINY | {"image_size": [SIDE, SIDE], "patch_size": 8, "num_detection_tokens": 10}
    hf.YolosModel(hf.YolosConfig(**tiny)).save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    encoder = load_encoder("huggingface", str(tmp_path), pool="cls")
    with pytest.raises(EncoderError, match="75 tokens are no square grid of patches"):
        Embedder.of(encoder, patches=True)


def test_tokens_are_in_reading_order(folders: dict[str, Path]) -> None:
    encoder = load_encoder("huggingface", str(folders["vit"]))
    black = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    spot = black.copy()
    step = SIDE // 8
    spot[:, 8:16, 24:32] = 255  # row 1, column 3 of patches of 8
    change = np.abs(encoder.embed_tokens(spot).x - encoder.embed_tokens(black).x).sum((0, 2))
    assert change.argmax() == step + 3


def test_another_size_stretches_learned_positions(folders: dict[str, Path]) -> None:
    encoder = load_encoder("huggingface", str(folders["vit"]), size=48)
    wanted = reference("vit", size={"height": 48, "width": 48}, interpolate_pos_encoding=True)
    assert_same(encoder.encode(IMAGES), wanted.pooler_output)


def test_grey_by_one_channel_is_grey_by_three(folders: dict[str, Path]) -> None:
    images = [image.convert("L") for image in IMAGES]
    one = load_encoder("huggingface", str(folders["vit"]), channels="L")
    three = load_encoder("huggingface", str(folders["vit"]))
    assert one.preprocess.shape == (SIDE, SIDE)
    np.testing.assert_array_equal(one.encode(images), three.encode(images))


def test_a_head_may_be_there_and_a_pooler_that_is_not_used_may_be_missing(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(**TINY, image_size=SIDE, patch_size=8)
    model = stirred(ViTForImageClassification(config))
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    assert load_encoder("huggingface", str(tmp_path), pool="cls").dim == 32
    with pytest.raises(EncoderError, match=r"2 missing: pooler\.dense\.bias.*use pool cls or mean"):
        load_encoder("huggingface", str(tmp_path))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("vit", {"num_hidden_layers": 1}, r"16 unexpected: .*layers?\.1\."),
        (
            "dinov3-vit",
            {"num_hidden_layers": 1, "out_features": ["stage1"], "out_indices": [1]},
            r"unexpected: .*\.1\.",
        ),
        ("vit", {"num_hidden_layers": 3}, r"16 missing: .*layers?\.2\."),
        ("vit", {"intermediate_size": 64}, r"of another shape: .* is \[48\] instead of \[64\]"),
        ("vit", {"model_type": "dinov2"}, "missing"),
        ("vit", {"model_type": "no-such-thing"}, "transformers cannot load it"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_described(
    tmp_path: Path, name: str, change: dict[str, Any], message: str
) -> None:
    config = saved(tmp_path, name) / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | change))
    with pytest.raises(EncoderError, match=message):
        load_encoder("huggingface", str(tmp_path))


def test_a_partial_checkpoint_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, "clip") / "model.safetensors"
    state = load_file(file)
    del state["vision_model.post_layernorm.weight"]
    save_file(state, file, metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"1 missing: vision_model\.post_layernorm\.weight"):
        load_encoder("huggingface", str(tmp_path))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(EncoderError, match="transformers cannot load it"):
        load_encoder("huggingface", str(tmp_path))


def test_a_model_that_does_not_read_images_and_one_that_hides_some_are_refused(tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel, ViTMAEConfig, ViTMAEModel

    for name, model in (
        ("bert", BertModel(BertConfig(**TINY, vocab_size=50))),
        ("mae", ViTMAEModel(ViTMAEConfig(**TINY, image_size=SIDE, patch_size=8))),
    ):
        model.save_pretrained(tmp_path / name)
        (tmp_path / name / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    with pytest.raises(EncoderError, match="bert model, which does not read images"):
        load_encoder("huggingface", str(tmp_path / "bert"))
    with pytest.raises(EncoderError, match="vit_mae model hides a random share"):
        load_encoder("huggingface", str(tmp_path / "mae"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool": "max"}, "pool is 'max'"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"mean": (0.1, 0.2)}, "mean is .*one number is needed, or 3"),
        ({"std": 0.0}, "must be positive"),
        ({"size": 2}, r"fails on \[1, 2, 2, 3\]"),
        ({"poool": "cls"}, "did you mean 'pool'"),
    ],
)
def test_options_that_cannot_be_are_refused(folders: dict[str, Path], options: dict[str, Any], message: str) -> None:
    name = "convnext" if "size" in options else "vit"
    with pytest.raises(EncoderError, match=message):
        load_encoder("huggingface", str(folders[name]), **options)


@pytest.mark.parametrize("name", ["dinov3-vit", "dinov3-convnext"])
def test_dinov3_takes_the_pooler_of_imagenet_pixels(tmp_path: Path, name: str) -> None:
    vision(name).save_pretrained(tmp_path)  # type: ignore[operator]
    encoder = load_encoder("dinov3", str(tmp_path), size=SIDE)
    pixels = torch.from_numpy(np.stack([encoder.preprocess(image) for image in IMAGES]))
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        wanted = vision(name).double()(((pixels.double() / 255 - mean) / std).permute(0, 3, 1, 2)).pooler_output
    assert encoder.dim == 32
    assert_same(encoder.encode(IMAGES), wanted)


def test_dinov3_reads_1024_pixels_as_sail_does(folders: dict[str, Path]) -> None:
    preprocess = encoder_preprocess("dinov3", str(folders["dinov3-vit"]))
    assert (preprocess.size, preprocess.fit, preprocess.resample) == (1024, "stretch", "bilinear")


def test_dinov3_refuses_another_model(folders: dict[str, Path]) -> None:
    with pytest.raises(EncoderError, match="a vit model; kind dinov3 reads"):
        load_encoder("dinov3", str(folders["vit"]), size=SIDE)


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"no config\.json"):
        load_encoder("huggingface", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        load_encoder("huggingface", str(tmp_path))
    with pytest.raises(EncoderError, match="must name a Hugging Face id or a folder"):
        load_encoder("huggingface")
    with pytest.raises(EncoderError, match="neither a folder nor a Hugging Face id"):
        load_encoder("huggingface", str(tmp_path / "nothing"))
