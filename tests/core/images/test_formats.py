"""What a file's format says of its pixels: depth, sign, what is white, which way is up, and what else it holds."""

import io
import struct
import zlib
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.images.decode import read_image
from medsae_ray.core.images.notes import notes_of
from medsae_ray.errors import ImageError

GREY_HW = np.random.default_rng(0).integers(0, 256, (37, 53), dtype=np.uint8)
COLOUR_HWC = np.random.default_rng(1).integers(0, 256, (37, 53, 3), dtype=np.uint8)
TWELVE_HWC = np.random.default_rng(2).integers(0, 4096, (37, 53, 4)).astype(np.uint16)
TWELVE_HWC[0, :2] = [[0] * 4, [4095] * 4]


def pixels(data: bytes, **options: Any) -> np.ndarray:
    return np.asarray(read_image(data, **options))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def reason_of(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as caught:
        read_image(data, **options)
    return caught.value.reason


def tiff(grey_HW: np.ndarray, photometric: int = 0, order: str = "<", strips: int = 1, **tags: int) -> bytes:
    """A TIFF of one channel or more [H, W, C], uncompressed, in so many strips."""
    grey_HW = grey_HW.astype(grey_HW.dtype.newbyteorder(order))
    height, width, channels = (*grey_HW.shape, 1)[:3]
    rows = -(-height // strips)
    parts = [grey_HW[at : at + rows].tobytes() for at in range(0, height, rows)]
    starts = [8 + sum(map(len, parts[:n])) for n in range(len(parts))]
    kind = {"u": 1, "i": 2, "f": 3}[grey_HW.dtype.kind]
    entries: dict[int, list[int]] = {256: [width], 257: [height], 258: [8 * grey_HW.itemsize] * channels, 259: [1]}
    entries |= {
        262: [photometric],
        273: starts,
        277: [channels],
        278: [rows],
        279: [len(part) for part in parts],
        339: [kind] * channels,
    }
    entries |= {int(tag.removeprefix("t")): [value] for tag, value in tags.items()}
    body, more = b"".join(parts), b""
    at = 8 + len(body)
    directory, after = struct.pack(f"{order}H", len(entries)), at + 2 + 12 * len(entries) + 4
    for tag, values in sorted(entries.items()):
        packed = struct.pack(f"{order}{len(values)}I", *values)
        place = packed if len(values) == 1 else struct.pack(f"{order}I", after + len(more))
        more += b"" if len(values) == 1 else packed
        directory += struct.pack(f"{order}HHI", tag, 4, len(values)) + place
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", at)
    return head + body + directory + bytes(4) + more


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("strips", [1, 5])
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_white_is_zero_is_turned_over_at_every_depth_and_sign(dtype: str, strips: int, order: str) -> None:
    wide = GREY_HW.astype(np.int64) * (1 if dtype == "u1" else 128 if dtype == "i2" else 257)
    grey_HW = wide.astype(dtype)
    expected = pixels(tiff(grey_HW, 1, order, strips))
    assert np.ptp(expected) > 100
    np.testing.assert_array_equal(pixels(tiff(grey_HW, 0, order, strips)), 255 - expected)


def test_twelve_bits_of_white_is_zero_fill_the_range() -> None:
    grey_HW = TWELVE_HWC[..., 0]
    expected = 255 - np.rint(grey_HW * (255 / 4095))
    np.testing.assert_array_equal(pixels(tiff(grey_HW)), expected)
    np.testing.assert_array_equal(pixels(tiff(grey_HW / np.float32(4095))), expected)


def test_negative_pixels_of_white_is_zero_have_a_range_only() -> None:
    grey_HW = np.array([[-1000, 0, 1000]], np.int16)
    assert reason_of(tiff(grey_HW)) == "out_of_range"
    np.testing.assert_array_equal(pixels(tiff(grey_HW), high_bit="minmax"), [[255, 127, 0]])


def png(values_HWC: np.ndarray, colour: int) -> bytes:
    height, width = values_HWC.shape[:2]

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values_HWC)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def bigtiff(values: np.ndarray) -> bytes:
    return imagecodecs.tiff_encode(values, photometric="rgb", bigtiff=True)


def j2k(values: np.ndarray) -> bytes:
    return imagecodecs.jpeg2k_encode(values, level=0)


def ppm(values: np.ndarray) -> bytes:
    height, width = values.shape[:2]
    return f"P6 {width} {height} 65535\n".encode() + values.astype(">u2").tobytes()


def plain_ppm(values: np.ndarray) -> bytes:
    height, width = values.shape[:2]
    rows = "# made\n".join(" ".join(map(str, row)) + "\n" for row in values.reshape(height, -1).tolist())
    return f"P3 {width} {height} 65535\n{rows}".encode()


def separate(values: np.ndarray) -> bytes:
    return imagecodecs.tiff_encode(np.moveaxis(values, -1, 0), photometric="rgb", planarconfig="separate")


RGB, RGBA = TWELVE_HWC[..., :3], TWELVE_HWC


@pytest.mark.parametrize("factor", [1, 16])
@pytest.mark.parametrize(
    ("encode", "values"),
    [
        (lambda v: png(v, 2), RGB),
        (lambda v: png(v, 6), RGBA),
        (lambda v: imagecodecs.tiff_encode(v, photometric="rgb"), RGB),
        (lambda v: imagecodecs.tiff_encode(v, photometric="rgb"), RGBA),
        (lambda v: imagecodecs.tiff_encode(v, photometric="rgb", compression="deflate", predictor=True), RGB),
        (separate, RGB),
        (bigtiff, RGB),
        (j2k, RGB),
        (ppm, RGB),
        (plain_ppm, RGB),
    ],
    ids=["PNG", "PNG alpha", "TIFF", "TIFF alpha", "TIFF deflate", "TIFF planes", "BigTIFF", "JP2", "PPM", "plain PPM"],
)
def test_deep_colours_are_scaled_as_deep_grey_is(encode: Any, values: np.ndarray, factor: int) -> None:
    top = 4095 if factor == 1 else 65_535
    expected = np.rint(values[..., :3].astype(np.float32) * np.float32(factor) * np.float32(255 / top))
    np.testing.assert_array_equal(pixels(encode(values * np.uint16(factor))), expected)


def test_deep_grey_with_alpha_is_deep_grey() -> None:
    grey_HW = TWELVE_HWC[..., 0]
    with_alpha = np.stack([grey_HW, np.full_like(grey_HW, 65_535)], axis=-1)
    expected = pixels(png(grey_HW[..., None], 0))
    np.testing.assert_array_equal(pixels(png(with_alpha, 4)), expected)
    np.testing.assert_array_equal(pixels(tiff(with_alpha, 1, t338=2)), expected)
    np.testing.assert_array_equal(pixels(tiff(with_alpha, 0, ">", t338=2)), 255 - expected)
    assert expected.max() == 255


@pytest.mark.parametrize(
    "encode", [lambda v: png(v, 2), lambda v: imagecodecs.tiff_encode(v, photometric="rgb"), j2k, ppm]
)
def test_an_8_bit_colour_image_stored_as_16_bit_comes_back_exactly(encode: Any) -> None:
    np.testing.assert_array_equal(pixels(encode(COLOUR_HWC.astype(np.uint16) * 257)), COLOUR_HWC)


def test_deep_files_are_refused_by_their_header_and_when_they_are_cut() -> None:
    for data in (png(RGB, 2), imagecodecs.tiff_encode(RGB, photometric="rgb"), j2k(RGB), ppm(RGB), plain_ppm(RGB)):
        assert reason_of(data, max_pixels=RGB.shape[0] * RGB.shape[1] - 1) == "too_large"
        assert reason_of(data[: len(data) // 2]) in ("truncated", "corrupt")


def test_a_jp2_whose_stream_is_larger_than_its_header_is_refused() -> None:
    for values in (RGB, COLOUR_HWC):
        data = bytearray(j2k(np.tile(values, (20, 20, 1))))
        at = data.index(b"ihdr") + 4
        data[at : at + 8] = struct.pack(">II", *values.shape[:2])
        assert reason_of(bytes(data)) == "corrupt"


TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: np.swapaxes(a, 0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.swapaxes(a[::-1, ::-1], 0, 1),
    8: lambda a: np.rot90(a),
}


def lying(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "JPEG" else {}
    return encoded(Image.fromarray(GREY_HW), kind, exif=exif, **options)


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_is_turned_as_its_exif_says(kind: str, orientation: int) -> None:
    data = lying(kind, orientation)
    stored = read_image(data, orientation="stored")
    np.testing.assert_array_equal(np.asarray(read_image(data)), TURNED[orientation](np.asarray(stored)))
    for image in (stored, read_image(data)):
        assert notes_of(image) == (("exif_orientation",) if orientation > 1 else ())


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_is_always_upright(orientation: int, deep: bool) -> None:
    if deep:
        image = read_image(tiff(TWELVE_HWC[..., 0].astype(np.int16), t274=orientation))
        upright = pixels(tiff(TWELVE_HWC[..., 0].astype(np.int16)))
    else:
        image = read_image(encoded(Image.fromarray(GREY_HW), "TIFF", tiffinfo={274: orientation}))
        upright = GREY_HW
    np.testing.assert_array_equal(np.asarray(image), TURNED[orientation](upright))
    assert notes_of(image) == (("exif_orientation",) if orientation > 1 else ())


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0nothing", b"", b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x63\0\0\0"]
)
def test_exif_that_says_nothing_turns_nothing(exif: bytes) -> None:
    image = read_image(encoded(Image.fromarray(GREY_HW), "JPEG", exif=exif))
    assert image.size == (53, 37) and notes_of(image) == ()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP", "AVIF"])
def test_further_pages_are_noted(kind: str) -> None:
    pages = [Image.fromarray(np.full((16, 16), value, np.uint8)) for value in (10, 200)]
    image = read_image(encoded(pages[0], kind, save_all=True, append_images=pages[1:]))
    assert abs(image.convert("L").getpixel((2, 2)) - 10) < 3
    assert notes_of(image) == ("more_pages",) and notes_of(read_image(encoded(pages[0], kind))) == ()


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_that_is_dropped_is_noted(mode: str) -> None:
    solid = Image.fromarray(COLOUR_HWC).convert(mode)
    pierced = solid.copy()
    pierced.putpixel((3, 3), (9,) * len(mode))
    assert notes_of(read_image(encoded(solid))) == () and notes_of(read_image(encoded(pierced))) == ("transparency",)


@pytest.mark.parametrize(("kind", "codec"), [("JPEG2000", "JP2"), ("PPM", "P5"), ("AVIF", "AVIF")])
def test_other_formats_are_read(kind: str, codec: str) -> None:
    smooth = np.linspace(0, 255, 64 * 48).reshape(48, 64).astype(np.uint8)
    image = read_image(encoded(Image.fromarray(smooth), kind))
    assert np.abs(np.asarray(image.convert("L")).astype(int) - smooth).max() <= (6 if kind == "AVIF" else 0), codec


@pytest.mark.parametrize("values", [GREY_HW, TWELVE_HWC[..., 0]])
def test_a_bare_jpeg_2000_stream_is_read(values: np.ndarray) -> None:
    data = imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k")
    expected = values if values.dtype == np.uint8 else np.rint(values * (255 / 4095))
    np.testing.assert_array_equal(pixels(data), expected)


def test_a_pgm_of_twelve_bits_is_scaled() -> None:
    values = TWELVE_HWC[..., 0]
    for top in (4095, 65_535):
        data = f"P5\n# a comment\n53 37\n{top}\n".encode() + values.astype(">u2").tobytes()
        assert np.abs(pixels(data).astype(int) - np.rint(values * (255 / 4095))).max() <= 1
