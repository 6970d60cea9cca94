"""Pixels against transformers' PIL image processors, on real radiographs and on images of awkward shapes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.encoders.processor import image_settings
from medsae_ray.core.images.decode import read_image
from medsae_ray.errors import EncoderError
from tests.core.encoders.small_models import PROCESSOR
from tests.support.shared import SHARED, needs_shared

SHAPES = [(64, 64), (50, 91), (91, 50), (224, 224), (225, 300), (641, 333), (1, 7)]


def processors() -> dict[str, Any]:
    import transformers as hf

    return {
        "vit": hf.ViTImageProcessorPil(size={"height": 96, "width": 96}),
        "vit lanczos": hf.ViTImageProcessorPil(size={"height": 96, "width": 96}, resample=1),
        "clip": hf.CLIPImageProcessorPil(),
        "dinov2": hf.BitImageProcessorPil(size={"shortest_edge": 97}, crop_size={"height": 84, "width": 84}),
        "deit": hf.DeiTImageProcessorPil(size={"height": 97, "width": 97}, crop_size={"height": 84, "width": 84}),
        "siglip": hf.SiglipImageProcessorPil(size={"height": 96, "width": 96}),
        "convnext": hf.ConvNextImageProcessorPil(size={"shortest_edge": 90}),
        "large convnext": hf.ConvNextImageProcessorPil(),
        "without normalisation": hf.ViTImageProcessorPil(size={"height": 32, "width": 32}, do_normalize=False),
        "without rescaling": hf.ViTImageProcessorPil(size={"height": 32, "width": 32}, do_rescale=False),
    }


def colourful(shape: tuple[int, int]) -> Image.Image:
    """A smooth image with noise, so that every interpolation gives another result."""
    rng, (height, width) = np.random.default_rng(sum(shape)), shape
    rows, columns = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(rows / 9 + k) * np.cos(columns / 7 - k) for k in range(3)], axis=-1)
    return Image.fromarray((127 + 90 * waves + rng.normal(0, 12, waves.shape)).clip(0, 255).astype(np.uint8))


def assert_same_pixels(folder: Path, processor: Any, images: list[Image.Image]) -> None:
    processor.save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    preprocess, normal = image_settings(folder, {"channels": "RGB"})
    for image in images:
        wanted = processor(image.convert("RGB"), return_tensors="np")["pixel_values"][0]
        mean, std = (np.reshape(values, (-1, 1, 1)) for values in (normal.mean, normal.std))
        found = (preprocess(image).transpose(2, 0, 1) / normal.divisor - mean) / std
        # One grey level is 1/255 over std or more: equality of the 8-bit grids, and rounding of a float after it.
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", processors())
def test_pixels_equal_those_of_transformers(tmp_path: Path, name: str) -> None:
    assert_same_pixels(tmp_path, processors()[name], [colourful(shape) for shape in SHAPES])


@needs_shared
@pytest.mark.parametrize("name", ["vit", "clip", "dinov2", "siglip", "large convnext"])
def test_pixels_of_real_radiographs_equal_those_of_transformers(tmp_path: Path, name: str) -> None:
    files = sorted((SHARED / "data" / "nih621" / "images").iterdir())[:20]
    assert_same_pixels(tmp_path, processors()[name], [read_image(file.read_bytes()) for file in files])


def settings(folder: Path, stored: dict[str, Any] | None, **given: Any) -> Any:
    if stored is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(stored))
    (folder / "config.json").write_text(json.dumps({"vision_config": {"image_size": 48}}))
    return image_settings(folder, {"channels": "RGB"} | given)


def test_a_lone_number_is_a_square_or_the_short_side_as_its_processor_had_it(tmp_path: Path) -> None:
    square = settings(tmp_path, PROCESSOR | {"size": 40, "image_processor_type": None})[0]
    assert (square.size, square.fit, square.resize) == (40, "stretch", None)
    old = {"size": 40, "crop_size": 32, "do_center_crop": True, "image_processor_type": None}
    clip = settings(tmp_path, PROCESSOR | old | {"feature_extractor_type": "CLIPFeatureExtractor"})[0]
    assert (clip.size, clip.fit, clip.resize) == (32, "crop", 40)
    deit = settings(tmp_path, PROCESSOR | old | {"feature_extractor_type": "DeiTFeatureExtractor"})[0]
    assert (deit.size, deit.fit, deit.resize) == (32, "stretch", 40)


def test_what_is_given_overrides_the_file(tmp_path: Path) -> None:
    stored = PROCESSOR | {
        "size": {"shortest_edge": 60},
        "crop_size": {"height": 50, "width": 50},
        "do_center_crop": True,
    }
    assert settings(tmp_path, stored)[0].resize == 60
    preprocess, normal = settings(tmp_path, stored, size=32, resample="lanczos", mean=0.25, std=[1, 2, 3])
    assert (preprocess.size, preprocess.resize, preprocess.fit, preprocess.resample) == (32, None, "crop", "lanczos")
    assert (normal.mean, normal.std) == (0.25, (1.0, 2.0, 3.0))
    assert settings(tmp_path, stored, size=32, resize=36)[0].resize == 36
    assert settings(tmp_path, stored, fit="pad")[0].fit == "pad"


def test_a_size_and_a_fit_stand_in_for_a_geometry_that_is_not_carried_out(tmp_path: Path) -> None:
    for size in ({"shortest_edge": 32, "longest_edge": 64}, {"height": 32, "width": 48}, None):
        preprocess = settings(tmp_path, PROCESSOR | {"size": size}, size=40, fit="pad")[0]
        assert (preprocess.size, preprocess.fit, preprocess.resample) == (40, "pad", "bilinear")
    native = settings(tmp_path, PROCESSOR | {"do_resize": False}, fit="crop")[0]
    assert (native.size, native.fit) == (48, "crop")


def test_without_a_file_the_colours_have_to_be_given(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"does not say 'mean'.*set the option mean"):
        settings(tmp_path, None)
    preprocess, normal = settings(tmp_path, None, mean=0.5, std=0.5)
    assert (preprocess.size, preprocess.fit, preprocess.resample) == (48, "stretch", "bilinear")
    assert normal.divisor == 255


def test_the_image_half_of_a_joint_processor_is_read(tmp_path: Path) -> None:
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": PROCESSOR}))
    assert settings(tmp_path, None)[1].mean == (0.5, 0.4, 0.3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"do_flip_channel_order": True}, "asks for do_flip_channel_order"),
        ({"rescale_offset": True}, "asks for rescale_offset"),
        ({"size": {"height": 32, "width": 48}}, "32 x 48; only squares"),
        ({"size": {"shortest_edge": 32}}, "keeps the aspect"),
        ({"size": {"shortest_edge": 32, "longest_edge": 64}}, "is not understood"),
        ({"size": None}, "does not say to what size"),
        ({"resample": None}, "does not say 'resample'"),
        ({"image_std": None}, "does not say 'std'"),
        ({"image_std": [0, 1, 1]}, "must be positive"),
    ],
)
def test_what_is_not_carried_out_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        settings(tmp_path, PROCESSOR | change)


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text("[")
    with pytest.raises(EncoderError, match=r"preprocessor_config\.json: not a readable JSON object"):
        image_settings(tmp_path, {})
