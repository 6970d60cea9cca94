"""Pixels of more than 8 bits where Pillow gives 8: it cuts off the lower bits of 16 in images of several channels,
which leaves nothing of a 12-bit image. Kinds of TIFF that Pillow does not know are read here too.

imagecodecs (libpng, OpenJPEG, libtiff) fills an array of the size in the header, so that a contradictory file cannot
ask for a larger one. It holds zeros first: missing pixels of a damaged file are black, not leftover memory. Alpha is
dropped. Legend: H, W rows and columns, C channels.
"""

import io
import re
import struct
from typing import Any, NamedTuple, Self

import numpy as np
from PIL import ImageFile, TiffImagePlugin

from medsae_ray.errors import ImageError

_MAX_CHANNELS = 8
_GREY, _RGB, _CMYK = (0, 1), 2, 5


def png(data: bytes, image: ImageFile.ImageFile) -> np.ndarray | None:
    """Decode 16-bit grey with alpha, colour, and colour with alpha; None for images that Pillow reads in full."""
    depth, colour = data[24], data[25]
    if depth != 16 or colour not in (2, 4, 6):
        return None
    # Transparency by one colour becomes an alpha channel.
    channels = {2: 4 if "transparency" in image.info else 3, 4: 2, 6: 4}[colour]
    return _colours(_codecs().png_decode(data, out=_array(image.size, channels, np.uint16)))


def jpeg_2000(data: bytes, image: ImageFile.ImageFile) -> np.ndarray | None:
    """Decode more than 8 bits in colour or with a sign; None for images that Pillow reads in full."""
    at = data.find(b"\xff\x4f\xff\x51")
    if at < 0 or len(data) < at + 43:
        return None
    (channels,), said = struct.unpack(">H", data[at + 40 : at + 42]), data[at + 42]
    bits, has_sign = (said & 127) + 1, bool(said & 128)
    if bits <= 8 or (channels == 1 and not has_sign):
        return None
    if channels > 4 or bits > 16:
        raise ImageError("unsupported_mode", f"JPEG 2000 of {channels} channels and {bits} bits")
    return _colours(
        _codecs().jpeg2k_decode(data, out=_array(image.size, channels, np.int16 if has_sign else np.uint16))
    )


def ppm(data: bytes, image: ImageFile.ImageFile) -> np.ndarray | None:
    """Decode PPM, binary or plain, with values above 255; None for others."""
    tile = image.tile[0]
    top = tile.args[-1] if isinstance(tile.args, tuple) else tile.args
    if image.mode != "RGB" or not isinstance(top, int) or top <= 255:
        return None
    wanted, plain = 3 * image.width * image.height, data.startswith(b"P3")
    if plain:
        values = np.array(re.sub(rb"#[^\r\n]*", b"", data[tile.offset :]).split()[:wanted], np.uint16)
    else:
        values = np.frombuffer(data, ">u2", min(wanted, (len(data) - tile.offset) // 2), tile.offset)
    if len(values) < wanted:
        raise ImageError("truncated", "fewer pixels than in the header")
    return values.reshape(image.height, image.width, 3)


class TiffTags(NamedTuple):
    """The tags of a TIFF's first directory."""

    width: int
    height: int
    bits: int
    """The most bits of a channel."""
    channels: int
    kind: int
    """The SampleFormat: 1 unsigned, 2 signed, 3 float."""
    photometric: int
    planar: bool
    """True if channels are stored one after the other."""
    orientation: int
    more: bool
    """True if the file has another directory."""

    @classmethod
    def of(cls, data: bytes) -> Self:
        """Read the first directory. Raises ImageError if it lacks the size or the place of the pixels."""
        stream = io.BytesIO(data)
        head = stream.read(8)
        head += stream.read(8) if 43 in head[2:4] else b""
        tags = TiffImagePlugin.ImageFileDirectory_v2(head)
        stream.seek(tags.next)
        tags.load(stream)
        if not {256, 257} <= set(tags) or not {273, 324} & set(tags):
            raise ImageError("corrupt", "a TIFF directory without the place and size of pixels")

        def number(tag: int, absent: int) -> int:
            value: Any = tags.get(tag, absent)
            return int(max(value) if isinstance(value, tuple) else value)

        return cls(
            width=number(256, 0),
            height=number(257, 0),
            bits=number(258, 1),
            channels=number(277, 1),
            kind=number(339, 1),
            photometric=number(262, 0),
            planar=number(284, 1) == 2,
            orientation=number(274, 1),
            more=bool(tags.next),
        )

    @property
    def faithful_in_pillow(self) -> bool:
        """True if Pillow reads all bits of a kind that it knows."""
        return self.channels == 1 or self.bits <= 8

    @property
    def white_is_zero(self) -> bool:
        """True if grey values are inverted: 0 is white."""
        return self.photometric == 0


def tiff(data: bytes, tags: TiffTags) -> np.ndarray:
    """Decode [H, W] or [H, W, 3] of any depth and sign. Raises ImageError unsupported_mode for other images."""
    letter = {1: "u", 2: "i", 3: "f"}.get(tags.kind)
    grey, colour = tags.photometric in _GREY, tags.photometric == _RGB and tags.channels >= 3
    if letter is None or tags.bits % 8 or not (grey or colour) or tags.channels > _MAX_CHANNELS:
        raise ImageError("unsupported_mode", f"TIFF of kind {tags.photometric} with {tags.channels} x {tags.bits} bits")
    dtype = np.dtype(f"{letter}{tags.bits // 8}")
    if tags.planar and tags.channels > 1:
        planes = _codecs().tiff_decode(data, out=np.zeros((tags.channels, tags.height, tags.width), dtype))
        return _colours(np.moveaxis(planes, 0, -1))
    return _colours(_codecs().tiff_decode(data, out=_array((tags.width, tags.height), tags.channels, dtype)))


def _array(size: tuple[int, int], channels: int, dtype: Any) -> np.ndarray:
    width, height = size
    return np.zeros((height, width, channels) if channels > 1 else (height, width), dtype)


def _colours(pixels_HWC: np.ndarray) -> np.ndarray:
    """Return [H, W] of one channel or of grey with alpha, else [H, W, 3]."""
    if pixels_HWC.ndim == 2:
        return pixels_HWC
    return pixels_HWC[..., :3] if pixels_HWC.shape[2] >= 3 else pixels_HWC[..., 0]


def _codecs() -> Any:
    try:
        import imagecodecs
    except ImportError as error:
        raise ImageError("unsupported_mode", "deep colours need imagecodecs: pip install imagecodecs") from error
    return imagecodecs
