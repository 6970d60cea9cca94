"""What every encoder does with images, shown by one that is arithmetic; and the door to all of them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsae_ray.core.encoders import encoder_preprocess, load_encoder
from medsae_ray.core.encoders.base import Encoder, ImageLike
from medsae_ray.core.encoders.inputs import opened
from medsae_ray.core.encoders.onnx import OnnxOptions
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError, ImageError


class MeanAndMax(Encoder):
    """The mean and the maximum of each grid."""

    kind = "mean-and-max"
    dim = 2

    def __init__(self, preprocess: Preprocess) -> None:
        self.preprocess = preprocess
        self.batches: list[int] = []

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        self.batches.append(len(pixels))
        flat = pixels.reshape(len(pixels), -1)
        return np.stack([flat.mean(1), flat.max(1)], axis=1).astype(np.float32)


@pytest.fixture
def encoder() -> MeanAndMax:
    return MeanAndMax(Preprocess(size=4))


def test_paths_images_and_arrays_are_the_same_image(encoder: MeanAndMax, tmp_path: Path) -> None:
    grey_HW = np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
    image = Image.fromarray(grey_HW)
    image.save(tmp_path / "a.png")
    deep, colour = grey_HW.astype(np.uint16) * 257, np.repeat(grey_HW[:, :, None], 3, axis=2)
    forms: list[ImageLike] = [tmp_path / "a.png", str(tmp_path / "a.png"), image, grey_HW, deep, colour]
    forms += [grey_HW[:, :, None], grey_HW[None], grey_HW.astype(np.int64), torch.from_numpy(grey_HW)]
    forms += [grey_HW / 255, grey_HW.astype(np.float32), np.repeat(grey_HW[None], 3, axis=0) / np.float32(255)]
    x_ND = encoder.encode(forms, batch_size=4)
    np.testing.assert_array_equal(x_ND, np.tile([grey_HW.mean(), 255], (len(forms), 1)))
    assert encoder.batches == [4, 4, 4, 1]
    for one in (
        forms[0],
        forms[1],
        image,
        grey_HW,
        colour,
        grey_HW[:, :, None],
        torch.from_numpy(grey_HW),
        grey_HW[None],
    ):
        np.testing.assert_array_equal(encoder.encode(one), x_ND[:1])
    np.testing.assert_array_equal(encoder.encode(image for _ in range(3)), x_ND[:3])
    large = np.kron(grey_HW, np.ones((2, 2), np.uint8))
    for several in (np.stack([large] * 2), np.stack([colour] * 5), np.array([str(tmp_path / "a.png")] * 2)):
        np.testing.assert_array_equal(encoder.encode(several), encoder.encode(list(several)))


@pytest.mark.parametrize("one", [np.zeros((3, 8, 8), np.uint8), np.zeros(8), b"PNG", np.zeros((1, 1, 8, 8, 3))])
def test_what_may_be_one_image_or_several_is_refused(encoder: MeanAndMax, one: np.ndarray | bytes) -> None:
    with pytest.raises(EncoderError, match="list"):
        encoder.encode(one)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("pixels", "reason"),
    [
        ([0.0, 1.0], "out_of_range"),
        ([0.0, 1.01], "out_of_range"),
        ([-0.1, 0.5], "out_of_range"),
        ([0.0, 256.0], "out_of_range"),
        ([0.0, np.nan], "not_finite"),
    ],
)
def test_floating_point_pixels_whose_scale_is_not_known_are_refused(
    encoder: MeanAndMax, pixels: list[float], reason: str
) -> None:
    with pytest.raises(ImageError, match="image 0") as caught:
        encoder.encode([np.resize(np.array(pixels), (4, 4))])
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_that_was_only_opened_is_turned_as_its_file_says(
    encoder: MeanAndMax, tmp_path: Path, kind: str
) -> None:
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / f"a.{kind.lower()}"
    Image.fromarray(np.linspace(0, 255, 512).reshape(32, 16).astype(np.uint8)).save(path, exif=exif)
    encoder.preprocess = Preprocess(size=4, fit="crop")
    assert opened(Image.open(path)).size == opened(path).size == (32, 16)
    np.testing.assert_array_equal(encoder.encode(Image.open(path)), encoder.encode(path))
    with Image.open(path) as image:
        turned = image.rotate(90, expand=True)
    assert opened(turned) is turned


def test_no_images_give_no_rows(encoder: MeanAndMax) -> None:
    assert encoder.encode([]).shape == (0, 2)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("nothing.png", "missing"),
        (".", "unreadable"),
        (np.zeros((4, 4), complex), "unsupported_mode"),
        (np.zeros((3, 4, 3), np.uint8), "unsupported_mode"),
        (np.full((4, 4, 3), 256), "out_of_range"),
        (b"PNG", "unsupported_mode"),
        (np.zeros((4, 4, 4), np.uint8), "unsupported_mode"),
        (np.zeros((0, 4), np.uint8), "empty"),
    ],
)
def test_a_bad_image_is_named_by_its_index(encoder: MeanAndMax, bad: str | np.ndarray, reason: str) -> None:
    with pytest.raises(ImageError, match="image 1") as caught:
        encoder.encode([np.zeros((4, 4), np.uint8), bad])
    assert caught.value.reason == reason
    assert not isinstance(bad, str) or f"({bad})" in str(caught.value)


@pytest.mark.parametrize("pixels", [np.zeros((1, 4, 4)), np.zeros((4, 4), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)])
def test_pixels_of_another_shape_are_refused(encoder: MeanAndMax, pixels: np.ndarray) -> None:
    with pytest.raises(EncoderError, match=r"uint8 \[N, 4, 4\] is read"):
        encoder.embed(pixels)


def test_an_encoder_without_patches_says_so(encoder: MeanAndMax) -> None:
    with pytest.raises(EncoderError, match="'mean-and-max' has no patch tokens"):
        encoder.embed_tokens(np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(EncoderError, match=r"uint8 \[N, 4, 4\] is read"):
        encoder.embed_tokens(np.zeros((1, 5, 4), np.uint8))


def test_an_encoder_without_published_weights_asks_for_some() -> None:
    with pytest.raises(EncoderError, match="'onnx' has no published weights"):
        OnnxOptions(kind="onnx", size=8).locate()


def test_an_unknown_kind_or_option_is_answered_with_the_nearest() -> None:
    with pytest.raises(EncoderError, match="did you mean 'medclip-vit'"):
        load_encoder("medclip-vitt")
    with pytest.raises(EncoderError, match="did you mean 'channels'"):
        load_encoder("onnx", "x.onnx", chanels="L")
    with pytest.raises(EncoderError, match="no option 'size'"):
        encoder_preprocess("medclip-vit", size=64)


def test_a_device_or_number_of_threads_that_cannot_be_is_refused() -> None:
    with pytest.raises(EncoderError, match="tpu"):
        load_encoder("medclip-vit", "x.bin", device="tpu")
    with pytest.raises(EncoderError, match="threads"):
        load_encoder("medclip-vit", "x.bin", threads=0)


def test_importing_the_package_loads_no_framework() -> None:
    code = "import sys, medsae_ray.core.encoders; print({'torch', 'transformers', 'onnxruntime'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
