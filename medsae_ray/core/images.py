"""From the bytes of an image file to the uint8 grid that an encoder reads.

An image that cannot be used raises ImageError, whose `reason` is one word of REASONS:

| reason | meaning |
|---|---|
| missing | there is no such file (raised by the caller, who does the I/O) |
| unreadable | the file exists but reading it failed (raised by the caller) |
| empty | 0 bytes |
| not_an_image | the first bytes are of none of the formats in _OPENERS |
| too_large | more pixels than allowed, known from the header before any pixel is decoded |
| truncated | the file ends before the image does |
| corrupt | anything else that stops the decoder |
| unsupported_mode | pixels of a kind that has no faithful 8-bit grey or colour form |
| not_finite | pixels of a medical file or the encoder's output (raised by the caller) that are no finite numbers |
| out_of_range | high-bit pixels below 0 or above 65535, for which only high_bit="minmax" has a meaning |
| no_pixels | a DICOM file without an image: a report, a plan |

Legend: H, W image height and width; S side of the encoder's square input.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from medsae_ray.core.dicom import Dicom, looks_like_dicom
from medsae_ray.errors import EncoderError, ImageError

REASONS = (
    "missing",
    "unreadable",
    "empty",
    "not_an_image",
    "too_large",
    "truncated",
    "corrupt",
    "unsupported_mode",
    "not_finite",
    "out_of_range",
    "no_pixels",
)
MAX_PIXELS = 100_000_000
MAX_SIDE = 16_384  # px of a padded or resized intermediate, so that a 1 x 50,000,000 image cannot ask for a square

HIGH_BIT = ("depth", "minmax")
FITS = ("pad", "stretch", "crop")
RESAMPLES = ("nearest", "bilinear", "bicubic", "lanczos")

# The decoders are called directly: Image.open heeds the process-wide MAX_IMAGE_PIXELS and tries every format it knows.
_OPENERS: dict[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    b"\x89PNG\r\n\x1a\n": PngImagePlugin.PngImageFile,
    b"\xff\xd8\xff": JpegImagePlugin.JpegImageFile,
    b"II*\x00": TiffImagePlugin.TiffImageFile,
    b"MM\x00*": TiffImagePlugin.TiffImageFile,
    b"II+\x00": TiffImagePlugin.TiffImageFile,
    b"MM\x00+": TiffImagePlugin.TiffImageFile,
    b"GIF8": GifImagePlugin.GifImageFile,
    b"RIFF": WebPImagePlugin.WebPImageFile,
    b"BM": BmpImagePlugin.BmpImageFile,
}
_END_MARKS = {b"\x89PNG\r\n\x1a\n": b"IEND", b"\xff\xd8\xff": b"\xff\xd9"}
_DEPTHS = (8, 10, 12, 14, 16)
_GREY = ("1", "L", "LA", "La")
_COLOUR = ("P", "PA", "RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV")


def read_image(
    data: bytes,
    *,
    max_pixels: int = MAX_PIXELS,
    high_bit: str = "depth",
    window: str = "header",
    at_least: int | None = None,
) -> Image.Image:
    """Decode the whole of `data` (PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM; the first frame) to mode L or RGB.

    Transparency is dropped, not composited, and JPEG EXIF orientation is not applied: both as MedCLIP's reference
    preprocessing does, so that embeddings agree with it. High-bit grey is scaled as `eight_bit` says, and DICOM as
    `window` says (`core/dicom/pixels.py`). With `at_least` a JPEG is decoded at a half, quarter or eighth of its size
    where its shorter side keeps that many pixels: faster, and nearly the same after a resize.

    Raises ImageError with one of REASONS. Reads and changes no global state of PIL.
    """
    if not data:
        raise ImageError("empty", "the file has 0 bytes")
    magic = next((magic for magic in _OPENERS if data.startswith(magic)), None)
    if magic is None and looks_like_dicom(data):
        return Dicom(data, max_pixels=max_pixels, window=window).image()
    if magic is None or (magic == b"RIFF" and data[8:12] != b"WEBP"):
        raise ImageError("not_an_image", f"{len(data)} bytes that begin as no image format does")
    try:
        image = _OPENERS[magic](io.BytesIO(data))
        _refuse_large(image.size, max_pixels)
        if _is_cut(data, magic):
            raise ImageError("truncated", f"the file ends after {len(data)} bytes, without its end mark")
        if at_least and isinstance(image, JpegImagePlugin.JpegImageFile):
            width, height = (-(-side * at_least // min(image.size)) for side in image.size)
            image.draft(None, (width, height))
        image.load()
    except ImageError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", str(error)) from error
    except Exception as error:  # decoders raise SyntaxError, OSError, ValueError, struct.error, zlib.error, ...
        cut = _is_cut(data, magic) or "truncated" in str(error).lower() or isinstance(error.__cause__, EOFError)
        raise ImageError("truncated" if cut else "corrupt", f"{type(error).__name__}: {error}") from error
    return eight_bit(image, high_bit)


def eight_bit(image: Image.Image, high_bit: str = "depth") -> Image.Image:
    """`image` as mode L (grey, whatever its depth) or RGB (colour); L and RGB are returned as they are.

    16- and 32-bit grey is scaled linearly, never clipped. `high_bit="depth"` divides by the smallest depth of 8, 10,
    12, 14 or 16 bits that holds the brightest pixel (an 8-bit image stored as 16-bit by the factor 257 is recognised
    and given back exactly; float pixels within 0..1 are taken as the whole range); `"minmax"` maps the image's own
    darkest and brightest pixel to 0 and 255.
    """
    if high_bit not in HIGH_BIT:
        raise ValueError(f"high_bit is {high_bit!r}; it may be one of {', '.join(HIGH_BIT)}")
    if image.mode in ("L", "RGB"):
        return image
    if image.mode in _GREY:
        return image.convert("LA").convert("L") if image.mode == "La" else image.convert("L")
    if image.mode in _COLOUR:
        return image.convert("RGBA").convert("RGB") if image.mode == "RGBa" else image.convert("RGB")
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(grey_to_8_bit(np.asarray(image), high_bit))
    raise ImageError("unsupported_mode", f"mode {image.mode} has no faithful 8-bit form")


def grey_to_8_bit(grey_HW: np.ndarray, high_bit: str = "depth") -> np.ndarray:
    """High-bit grey of any real dtype -> uint8 [H, W], scaled as `eight_bit` says."""
    low, high = float(grey_HW.min()), float(grey_HW.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("corrupt", "pixels that are not finite numbers")
    if high_bit == "minmax":
        scale = 255.0 / (high - low) if high > low else 0.0
        return np.rint((grey_HW.astype(np.float64) - low) * scale).astype(np.uint8)
    if low < 0 or high > 65535:
        raise ImageError(
            "out_of_range", f'pixels span {low:g}..{high:g}, not 0..65535; high_bit="minmax" takes any range'
        )
    return np.rint(grey_HW.astype(np.float32) * np.float32(255 / _full_scale(grey_HW, high))).astype(np.uint8)


def _full_scale(grey_HW: np.ndarray, high: float) -> float:
    """The pixel value that means white, given the brightest one."""
    if high <= 1 and grey_HW.dtype.kind == "f":
        return 1.0
    if high > 255 and not (grey_HW % 257).any():
        return 65535.0
    return float(2 ** next(depth for depth in _DEPTHS if high < 2**depth) - 1)


def _refuse_large(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise ImageError("too_large", f"the header says {width} x {height} pixels, at most {max_pixels} are read")


def _is_cut(data: bytes, magic: bytes) -> bool:
    """Whether the file's end mark is nowhere in it; where a format has none, whether it is shorter than it says."""
    if magic == b"RIFF":
        return len(data) < int.from_bytes(data[4:8], "little") + 8
    mark = _END_MARKS.get(magic)
    return mark is not None and data.rfind(mark) < 0


@dataclass(frozen=True)
class Preprocess:
    """The CPU half of an encoder: an image -> the uint8 grid that `Encoder.embed` reads. Cheap and picklable."""

    size: int = 224
    """Side S of the square grid, in pixels."""
    channels: Literal["L", "RGB"] = "L"
    """Grey (ITU-R 601 luma of a colour image) or colour."""
    fit: Literal["pad", "stretch", "crop"] = "pad"
    """pad: centred on a black square of side max(S, W, H), as MedCLIP does, then resized. stretch: resized whatever
    the aspect. crop: short side resized to S, then the centre square."""
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    resize: int | None = None
    """stretch and crop: the side, or short side, to resize to before the centre S x S is cut; None: S itself."""

    def __post_init__(self) -> None:
        for name, values in (("channels", ("L", "RGB")), ("fit", FITS), ("resample", RESAMPLES)):
            if getattr(self, name) not in values:
                raise EncoderError(f"{name} is {getattr(self, name)!r}; it may be one of {', '.join(values)}")
        if not isinstance(self.size, int) or self.size < 1:
            raise EncoderError(f"size is {self.size!r}; it must be a whole number of pixels, at least 1")
        if self.resize is not None and (self.fit == "pad" or self.resize < self.size):
            raise EncoderError(
                f'resize is {self.resize!r}; with fit="stretch" or "crop" it may be a number from size = {self.size}'
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one grid: (S, S) for grey, (S, S, 3) for colour."""
        return (self.size, self.size) if self.channels == "L" else (self.size, self.size, 3)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """`image` of any size and mode -> uint8 [S, S] or [S, S, 3]. ImageError where that is impossible."""
        image = eight_bit(image).convert(self.channels)
        fitted = {"pad": self._pad, "stretch": self._stretch, "crop": self._crop}[self.fit](image)
        return np.array(fitted)

    def _resize(self, image: Image.Image, width: int, height: int) -> Image.Image:
        return image.resize((width, height), Image.Resampling[self.resample.upper()])

    def _pad(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        side = max(self.size, width, height)
        self._refuse_long(image, side)
        square = Image.new(self.channels, (side, side))
        square.paste(image, ((side - width) // 2, (side - height) // 2))
        return self._resize(square, self.size, self.size)

    def _stretch(self, image: Image.Image) -> Image.Image:
        side = self.resize or self.size
        return self._centre(self._resize(image, side, side))

    def _crop(self, image: Image.Image) -> Image.Image:
        short = min(image.size)
        width, height = (int((self.resize or self.size) * n / short) for n in image.size)
        self._refuse_long(image, max(width, height))
        return self._centre(self._resize(image, width, height))

    def _centre(self, image: Image.Image) -> Image.Image:
        left, top = ((n - self.size) // 2 for n in image.size)
        return image.crop((left, top, left + self.size, top + self.size))

    def _refuse_long(self, image: Image.Image, side: int) -> None:
        if side > max(MAX_SIDE, self.size):
            width, height = image.size
            raise ImageError("too_large", f'{width} x {height} pixels would need a side of {side} for fit="{self.fit}"')
