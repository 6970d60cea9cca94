"""The formats of image files other than DICOM, and their decoders.

PNG, JPEG, TIFF, BMP, GIF, WebP, AVIF, JPEG 2000 (JP2 and bare code streams), PBM, PGM and PPM: all by Pillow, except
for what it would cut to 8 bits or does not know (`deep.py`). The size is checked in the header before any pixel is
decoded. In AVIF, header and stream may contradict each other, and libavif's own limit counts: 2^28 pixels.
"""

import io
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    Jpeg2KImagePlugin,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from medsae_ray.core.images import deep
from medsae_ray.errors import ImageError

_PNG, _JPEG, _WEBP, _AVIF = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF", b"ftyp"
_JP2, _J2K = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PNM = (b"P1", b"P2", b"P3", b"P4", b"P5", b"P6")
# The decoders are called directly: Image.open heeds the process-wide MAX_IMAGE_PIXELS and tries every format it knows.
_OPENERS: dict[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    _PNG: PngImagePlugin.PngImageFile,
    _JPEG: JpegImagePlugin.JpegImageFile,
    **dict.fromkeys(_TIFF, TiffImagePlugin.TiffImageFile),
    b"GIF8": GifImagePlugin.GifImageFile,
    _WEBP: WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
    **dict.fromkeys((_JP2, _J2K), Jpeg2KImagePlugin.Jpeg2KImageFile),
    **dict.fromkeys(_PNM, PpmImagePlugin.PpmImageFile),
    _AVIF: AvifImagePlugin.AvifImageFile,
}
_END_MARKS = {_PNG: b"IEND", _JPEG: b"\xff\xd9", _JP2: b"\xff\xd9", _J2K: b"\xff\xd9"}
_DEEP = {_PNG: deep.png, _JP2: deep.jpeg_2000, _J2K: deep.jpeg_2000, **dict.fromkeys((b"P3", b"P6"), deep.ppm)}
_ORIENTATION = 274
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """The first image of a file."""

    pixels: Image.Image | np.ndarray
    """The pixels as Pillow has them; or [H, W] or [H, W, 3] with all bits, where Pillow would lose some."""
    inverted: bool = False
    """True if the least value is white."""
    orientation: int = 1
    """The orientation by EXIF or TIFF, 1 to 8; 1 is upright."""
    turned: bool = False
    """True if the pixels are upright already, as TIFF's are."""
    more: bool = False
    """True if the file holds further pages or frames."""


def known(data: bytes) -> bool:
    """Return True if `data` begins as one of the formats does."""
    return _magic(data) is not None


def claimed_pixels(data: bytes) -> int | None:
    """Return the number of pixels by the header; None if the bytes begin as no format does, or have no whole header."""
    magic = _magic(data)
    try:
        return math.prod(_OPENERS[magic](io.BytesIO(data)).size) if magic else None
    except Exception:  # as in `decode`, which says what is wrong
        return None


def decode(data: bytes, max_pixels: int, at_least: int | None = None) -> Decoded:
    """Decode the image in `data`. `at_least` is that of `read_image`.

    Raises ImageError not_an_image, too_large, truncated, corrupt, unsupported_mode.
    """
    magic = _magic(data)
    if magic is None:
        raise ImageError("not_an_image", f"{len(data)} bytes that begin as no image format does")
    try:
        return _tiff(data, max_pixels) if magic in _TIFF else _image(data, magic, max_pixels, at_least)
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", "the file claims more pixels than its decoder reads") from error
    except Exception as error:  # decoders raise SyntaxError, OSError, ValueError, struct.error, zlib.error, ...
        cut = _is_cut(data, magic) or "truncated" in str(error).lower() or isinstance(error.__cause__, EOFError)
        raise ImageError("truncated" if cut else "corrupt", f"{type(error).__name__}: {error}") from error


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Return `image` turned upright by its file's orientation."""
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _image(data: bytes, magic: bytes, max_pixels: int, at_least: int | None) -> Decoded:
    image = _OPENERS[magic](io.BytesIO(data))
    _refuse_large(image.size, max_pixels)
    if _is_cut(data, magic):
        raise ImageError("truncated", f"the file ends after {len(data)} bytes, without its end mark")
    more = bool(getattr(image, "is_animated", False))
    pixels = _DEEP[magic](data, image) if magic in _DEEP else None
    if pixels is None:
        if at_least and isinstance(image, JpegImagePlugin.JpegImageFile):
            width, height = (-(-side * at_least // min(image.size)) for side in image.size)
            image.draft(None, (width, height))
        image.load()
    return Decoded(image if pixels is None else pixels, orientation=image_orientation(image), more=more)


def _tiff(data: bytes, max_pixels: int) -> Decoded:
    tags = deep.TiffTags.of(data)
    _refuse_large((tags.width, tags.height), max_pixels)
    turn = tags.orientation if tags.orientation in _TURNS else 1
    if tags.faithful_in_pillow:
        try:
            image = TiffImagePlugin.TiffImageFile(io.BytesIO(data))
        except SyntaxError:  # a kind of pixels that it does not know
            pass
        else:
            _refuse_large(image.size, max_pixels)
            image.load()  # turns it
            inverted = tags.white_is_zero and image.mode[0] in "IF"  # which it does for 8 bits itself
            return Decoded(image, inverted, turn, turned=True, more=tags.more)
    pixels = deep.tiff(data, tags)
    return Decoded(pixels, tags.white_is_zero, turn, more=tags.more)


def _magic(data: bytes) -> bytes | None:
    if data[4:8] == _AVIF:
        brands = data[8 : min(int.from_bytes(data[:4], "big"), 256)]
        return _AVIF if any(brands[at : at + 4] in (b"avif", b"avis") for at in range(0, len(brands), 4)) else None
    magic = next((magic for magic in _OPENERS if data.startswith(magic)), None)
    told_apart = data[8:12] == b"WEBP" if magic == _WEBP else magic not in _PNM or data[2:3].isspace()
    return magic if told_apart else None


def image_orientation(image: Image.Image) -> int:
    """Return 1 to 8 by EXIF; 1 without an orientation."""
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # EXIF that does not parse says nothing
        return 1
    return found if found in _TURNS else 1


def _refuse_large(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError("too_large", f"the header claims {width} x {height} pixels, at most {max_pixels} are read")


def _is_cut(data: bytes, magic: bytes) -> bool:
    """Return True if the end mark is nowhere in the file, or, without such a mark, if it is shorter than it claims."""
    if magic == _WEBP:
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    mark = _END_MARKS.get(magic)
    return mark is not None and data.rfind(mark) < 0
