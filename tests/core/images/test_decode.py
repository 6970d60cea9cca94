"""Decoding: every mode and every way to be broken; the geometry of Preprocess."""

import io
import pickle
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from medsae_ray.core.images.decode import REASONS, Preprocess, eight_bit, grey_to_8_bit, read_image
from medsae_ray.errors import EncoderError, ImageError
from tests.support.shared import SHARED, needs_shared

GREY_HW = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
COLOUR_HWC = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP", "JPEG2000", "AVIF", "PPM")


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def reason_of(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(data, **options)
    assert caught.value.reason in REASONS
    return caught.value.reason


def png_header(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and whose pixels are four bytes."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0\0\0\0")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "GIF", "JPEG2000", "PPM"])
def test_lossless_formats_give_the_stored_pixels(kind: str) -> None:
    image = read_image(encoded(Image.fromarray(GREY_HW), kind))
    np.testing.assert_array_equal(np.asarray(image.convert("L")), GREY_HW)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF"])
def test_lossy_formats_give_what_image_open_gives(kind: str) -> None:
    data = encoded(Image.fromarray(COLOUR_HWC), kind)
    np.testing.assert_array_equal(np.asarray(read_image(data)), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize(
    ("mode", "kind", "result"),
    [
        ("1", "PNG", "L"),
        ("L", "PNG", "L"),
        ("LA", "PNG", "L"),
        ("P", "PNG", "RGB"),
        ("RGB", "PNG", "RGB"),
        ("RGBA", "PNG", "RGB"),
        ("CMYK", "TIFF", "RGB"),
        ("CMYK", "JPEG", "RGB"),
    ],
)
def test_each_mode_has_the_luma_that_pil_gives_it(mode: str, kind: str, result: str) -> None:
    source = Image.fromarray(COLOUR_HWC)
    data = encoded(source.quantize(64) if mode == "P" else source.convert(mode), kind)
    image = read_image(data)
    assert image.mode == result
    reference = Image.open(io.BytesIO(data)).convert("L")
    np.testing.assert_array_equal(np.asarray(image.convert("L")), np.asarray(reference))


@pytest.mark.parametrize("mode", ["La", "RGBa", "RGBX", "HSV", "PA"])
def test_modes_that_no_file_has_are_converted_too(mode: str) -> None:
    made = Image.new(mode, (4, 3))
    assert eight_bit(made).mode in ("L", "RGB")


def test_a_mode_without_an_8_bit_form_is_refused() -> None:
    with pytest.raises(ImageError, match="LAB") as caught:
        eight_bit(Image.new("LAB", (4, 3)))
    assert caught.value.reason == "unsupported_mode"


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("top", [40, 255])
def test_an_8_bit_image_stored_as_16_bit_by_257_comes_back_exactly(kind: str, top: int) -> None:
    grey_HW = np.minimum(GREY_HW, top)
    image = read_image(encoded(Image.fromarray(grey_HW.astype(np.uint16) * 257), kind))
    np.testing.assert_array_equal(np.asarray(image), grey_HW)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("dtype", ["<u2", ">u2", "int32", "float32"])
def test_each_depth_fills_the_whole_range(bits: int, dtype: str) -> None:
    row = np.array([[0, 2 ** (bits - 1), 2**bits - 1]])
    image = Image.fromarray(row.astype(dtype))
    assert image.mode in ("I;16", "I;16B", "I", "F")
    np.testing.assert_array_equal(np.asarray(eight_bit(image)), [[0, 128, 255]])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 65535), min_size=2, max_size=30))
def test_high_bit_scaling_keeps_the_order_of_pixels(values: list[int]) -> None:
    row = np.array([sorted(values)], np.uint16)
    for high_bit in ("depth", "minmax"):
        assert (np.diff(grey_to_8_bit(row, high_bit).astype(int)) >= 0).all()
    if (row % 257).any():  # not an 8-bit image in 16 bits: the brightest pixel is at least a quarter of white
        assert grey_to_8_bit(row).max() >= min(63, int(row.max()))


def test_minmax_spans_the_images_own_range_and_takes_negative_pixels() -> None:
    hounsfield = Image.fromarray(np.array([[-1000, 0, 1000]], np.int32))
    data = encoded(hounsfield, "TIFF")
    np.testing.assert_array_equal(np.asarray(read_image(data, high_bit="minmax")), [[0, 128, 255]])
    assert reason_of(data) == "out_of_range"
    np.testing.assert_array_equal(grey_to_8_bit(np.full((2, 2), 7, np.uint16), "minmax"), np.zeros((2, 2)))


def test_float_pixels_within_one_are_taken_as_the_whole_range_and_nan_is_refused() -> None:
    unit = Image.fromarray(np.array([[0, 0.5, 1]], np.float32))
    np.testing.assert_array_equal(np.asarray(read_image(encoded(unit, "TIFF"))), [[0, 128, 255]])
    assert reason_of(encoded(Image.fromarray(np.array([[0, np.nan]], np.float32)), "TIFF")) == "corrupt"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"hello, world", "not_an_image"),
        (b"%!PS-Adobe", "not_an_image"),
        (b"RIFF1234WAVE", "not_an_image"),
    ],
)
def test_what_is_no_image_is_told_apart(data: bytes, reason: str) -> None:
    assert reason_of(data) == reason


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
def test_a_file_cut_anywhere_is_refused(kind: str, share: float) -> None:
    data = encoded(Image.fromarray(COLOUR_HWC), kind)
    cut = data[: max(12, int(len(data) * share))]
    assert reason_of(cut) in (("truncated",) if kind in ("PNG", "JPEG", "WEBP") else ("truncated", "corrupt"))


def test_a_cut_jpeg_is_refused_even_where_another_library_allows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = encoded(Image.fromarray(COLOUR_HWC), "JPEG")
    assert reason_of(data[: len(data) // 2]) == "truncated"


def test_damaged_pixels_are_corrupt() -> None:
    data = bytearray(encoded(Image.fromarray(GREY_HW)))
    data[60:80] = b"\xff" * 20
    assert reason_of(bytes(data)) == "corrupt"


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMATS), st.integers(0, 400), st.binary(min_size=1, max_size=8))
def test_any_damage_gives_an_image_or_an_image_error(kind: str, where: int, noise: bytes) -> None:
    data = bytearray(encoded(Image.fromarray(COLOUR_HWC), kind))
    data[where : where + len(noise)] = noise
    try:
        outcome = read_image(bytes(data), max_pixels=10**6).mode
    except ImageError as error:
        outcome = error.reason
    assert outcome in ("L", "RGB", *REASONS)


def test_size_is_refused_from_the_header_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode(self: ImageFile.ImageFile) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", decode)
    assert reason_of(png_header(60_000, 60_000)) == "too_large"
    assert reason_of(encoded(Image.fromarray(GREY_HW)), max_pixels=GREY_HW.size - 1) == "too_large"


def test_the_limit_is_not_pils(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_image(encoded(Image.fromarray(GREY_HW))).size == (53, 37)


def test_the_first_frame_of_an_animation_is_read() -> None:
    frames = [Image.fromarray(np.full((5, 5), v, np.uint8)) for v in (10, 200)]
    for kind in ("GIF", "TIFF", "PNG"):
        image = read_image(encoded(frames[0], kind, save_all=True, append_images=frames[1:]))
        assert image.convert("L").getpixel((2, 2)) == 10


def test_padding_centres_on_black() -> None:
    grid = Preprocess(size=8)(Image.fromarray(np.full((4, 2), 200, np.uint8)))
    expected = np.zeros((8, 8), np.uint8)
    expected[2:6, 3:5] = 200
    np.testing.assert_array_equal(grid, expected)


def test_stretching_is_a_resize_and_cropping_keeps_the_centre() -> None:
    wide = Image.fromarray(np.tile(np.repeat([0, 200, 0], 8).astype(np.uint8), (8, 1)))
    assert Preprocess(size=8, fit="crop")(wide).min() == 200
    stretched = Preprocess(size=8, fit="stretch", resample="bilinear")(wide)
    np.testing.assert_array_equal(stretched, np.asarray(wide.resize((8, 8), Image.Resampling.BILINEAR)))


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("channels", ["L", "RGB"])
@pytest.mark.parametrize("size", [(1, 1), (300, 7), (7, 300), (64, 64)])
def test_every_fit_gives_its_shape_from_any_size(fit: str, channels: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess(size=64, channels=channels, fit=fit)  # type: ignore[arg-type]
    grid = pickle.loads(pickle.dumps(preprocess))(Image.new("RGB", size, (9, 9, 9)))
    assert grid.shape == preprocess.shape and grid.dtype == np.uint8


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_a_sliver_that_would_need_a_huge_square_is_refused(fit: str) -> None:
    with pytest.raises(ImageError) as caught:
        Preprocess(fit=fit)(Image.new("L", (1, 40_000)))  # type: ignore[arg-type]
    assert caught.value.reason == "too_large"


def test_preprocess_does_not_clip_a_16_bit_image() -> None:
    grey_HW = GREY_HW.astype(np.uint16) * 257
    np.testing.assert_array_equal(Preprocess()(Image.fromarray(grey_HW)), Preprocess()(Image.fromarray(GREY_HW)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"channels": "BGR"},
        {"fit": "squash"},
        {"resample": "hamming"},
        {"resize": 256},
        {"resize": 100, "fit": "crop"},
    ],
)
def test_wrong_options_are_refused_by_name(wrong: dict[str, Any]) -> None:
    with pytest.raises(EncoderError, match=next(iter(wrong))):
        Preprocess(**wrong)


@needs_shared
def test_pixels_equal_those_of_the_medclip_reference() -> None:
    folder = SHARED / "data" / "medclip_golden"
    goldens = np.load(folder / "goldens.npz")
    for name, pixels in zip(goldens["names"], goldens["pixel_values"][:, 0], strict=True):
        path = next((folder / "inputs").glob(f"{name}.*"))
        wanted = np.rint((pixels.astype(np.float64) * 0.27950088968644304 + 0.5862785803043838) * 255)
        np.testing.assert_array_equal(Preprocess()(read_image(path.read_bytes())), wanted)


@pytest.mark.parametrize(("side", "expected"), [(1000, 500), (2200, 550), (900, 900), (90, 90)])
def test_a_large_jpeg_is_decoded_smaller_if_asked_to(side: int, expected: int) -> None:
    y, x = np.mgrid[:side, :side] / side
    smooth = Image.fromarray((127 + 100 * np.sin(6 * x) * np.cos(5 * y)).astype(np.uint8))
    data = encoded(smooth, "JPEG", quality=95)
    reduced, whole = read_image(data, at_least=500), read_image(data)
    assert reduced.size == (expected, expected) and whole.size == (side, side)
    grids = (Preprocess(size=64)(image).astype(int) for image in (reduced, whole))
    assert np.abs(np.subtract(*grids)).max() <= 2
