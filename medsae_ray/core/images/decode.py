"""The way from the bytes of an image file to the uint8 grid that an encoder reads.

An image that cannot be used raises ImageError, whose `reason` is one word of REASONS:

| reason | meaning |
|---|---|
| missing | there is no such file (raised by the caller, who does the I/O) |
| unreadable | the file exists but reading it failed (raised by the caller) |
| empty | 0 bytes |
| not_an_image | the first bytes match no known format (`core/images/formats.py`, DICOM) |
| too_large | more pixels than allowed, known from the header before any pixel is decoded |
| truncated | the file ends before the image does |
| corrupt | anything else that stops the decoder |
| unsupported_mode | pixels of a kind that has no faithful 8-bit grey or colour form |
| not_finite | pixels of a medical file or the encoder's output (raised by the caller) are not finite |
| out_of_range | high-bit pixels below 0 or above 65535, for which only high_bit="minmax" has a meaning |
| no_pixels | a DICOM file without an image: a report, a plan |

Legend: H, W image height and width; S side of the encoder's square input.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageChops

from medsae_ray.core.images.dicom import Dicom, GreyValues, looks_like_dicom
from medsae_ray.core.images.formats import decode, known, upright
from medsae_ray.core.images.notes import noted
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
ORIENTATIONS = ("exif", "stored")
RESAMPLES = ("nearest", "bilinear", "bicubic", "lanczos")

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
    orientation: str = "exif",
) -> Image.Image:
    """Decode the whole of `data` (DICOM, or a format of `core/images/formats.py`; the first frame) to mode L or RGB.

    Transparency is dropped, not composited, as MedCLIP's reference preprocessing does. `orientation="exif"` turns an
    image by its EXIF, "stored" leaves it as its pixels lie, as that reference does too (TIFF's own orientation is
    always followed). Ignored features are noted (`core/images/notes.py`). Deep pixels are scaled by `eight_bit`, and
    DICOM by `window` (`core/images/dicom/pixels.py`). With `at_least` a JPEG is decoded at a half, quarter or eighth of
    its size where its shorter side keeps that many pixels: faster, and nearly the same after a resize.

    Raises ImageError with one of REASONS. Reads and changes no global state of PIL.
    """
    if not data:
        raise ImageError("empty", "the file has 0 bytes")
    if not known(data) and looks_like_dicom(data):
        dicom = Dicom(data, max_pixels=max_pixels, window=window)
        return noted(dicom.image(), {"more_pages": dicom.frames > 1})
    found = decode(data, max_pixels, at_least)
    image = eight_bit(found.pixels, high_bit, found.inverted)
    if orientation == "exif" and not found.turned:
        image = upright(image, found.orientation)
    transparent = isinstance(found.pixels, Image.Image) and _is_transparent(found.pixels)
    notes = {"exif_orientation": found.orientation != 1, "more_pages": found.more, "transparency": transparent}
    return noted(image, notes)


def grey_values(data: bytes, max_pixels: int = MAX_PIXELS, window: str = "header") -> GreyValues | None:
    """Decode the grey values of an image of more than 8 bits; None for colours, for 8 bits, and for an image that is
    to be turned. Raises ImageError."""
    if not known(data) and looks_like_dicom(data):
        return Dicom(data, max_pixels=max_pixels, window=window).values()
    found = decode(data, max_pixels)
    deep = isinstance(found.pixels, np.ndarray) or found.pixels.mode in ("I", "F") or found.pixels.mode[:4] == "I;16"
    value_HW = np.asarray(found.pixels, dtype=np.float64) if deep else np.empty(0)
    lies = found.turned or found.orientation == 1
    return GreyValues(value_HW, None, found.inverted) if lies and value_HW.ndim == 2 else None


def eight_bit(image: Image.Image | np.ndarray, high_bit: str = "depth", inverted: bool = False) -> Image.Image:
    """Return `image` as mode L (grey, whatever its depth) or RGB (colour); L and RGB are returned unchanged.

    Deep pixels, also as an array [H, W] or [H, W, 3], are scaled linearly, never clipped. `high_bit="depth"` divides by
    the smallest depth of 8, 10, 12, 14 or 16 bits that holds the brightest pixel (an 8-bit image stored as 16-bit by
    the factor 257 is recognised and restored exactly; float pixels within 0..1 are taken as the whole range);
    `"minmax"` maps the image's own darkest and brightest pixel to 0 and 255. The result of an `inverted` image is
    inverted.
    """
    if high_bit not in HIGH_BIT:
        raise ValueError(f"high_bit is {high_bit!r}; it may be one of {', '.join(HIGH_BIT)}")
    made = _eight_bit(image, high_bit)
    return ImageChops.invert(made) if inverted else made


def _eight_bit(image: Image.Image | np.ndarray, high_bit: str) -> Image.Image:
    if isinstance(image, np.ndarray):
        return Image.fromarray(grey_to_8_bit(image, high_bit))
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
    """Turn deep pixels of any real dtype, [H, W] or [H, W, 3], into uint8, scaled as in `eight_bit`."""
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
    scaled_HW: np.ndarray = grey_HW.astype(np.float32) * np.float32(255 / _full_scale(grey_HW, high))
    whole_HW: np.ndarray = np.rint(scaled_HW)
    return whole_HW.astype(np.uint8)


def _full_scale(grey_HW: np.ndarray, high: float) -> float:
    """Return the pixel value that means white, given the brightest one."""
    if high <= 1 and grey_HW.dtype.kind == "f":
        return 1.0
    if high > 255 and not (grey_HW % 257).any():
        return 65535.0
    return float(2 ** next(depth for depth in _DEPTHS if high < 2**depth) - 1)


def _is_transparent(image: Image.Image) -> bool:
    """Return True if some pixel is not opaque, or a palette has a transparent colour."""
    if "A" in image.getbands():
        return int(np.asarray(image.getchannel("A")).min()) < 255
    return "transparency" in image.info


@dataclass(frozen=True)
class Preprocess:
    """The CPU half of an encoder: an image -> the uint8 grid that `Encoder.embed` reads. Cheap and picklable."""

    size: int = 224
    """The side S of the square grid, in pixels."""
    channels: Literal["L", "RGB"] = "L"
    """The colours of the grid: grey (ITU-R 601 luma of a colour image) or RGB."""
    fit: Literal["pad", "stretch", "crop"] = "pad"
    """The way to a square. pad: centred on a black square of side max(S, W, H), as MedCLIP does, then resized. stretch:
    resized without keeping the aspect. crop: short side resized to S, then the centre square."""
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    resize: int | None = None
    """The side (stretch) or short side (crop) to resize to before the centre S x S is cut; None: S itself."""

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
        """The shape of one grid: (S, S) for grey, (S, S, 3) for colour."""
        return (self.size, self.size) if self.channels == "L" else (self.size, self.size, 3)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """Turn `image` of any size and mode into uint8 [S, S] or [S, S, 3]. Raises ImageError if that is impossible."""
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
