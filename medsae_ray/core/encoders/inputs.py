"""The images that `Encoder.encode` accepts: one or several, as paths, PIL images or arrays.

An array holds one image of 8 or 16 bits or of floating point numbers. An ambiguous array is refused: a wrong guess
would be a black or transposed image, without a warning. Legend: H, W image height and width.
"""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from medsae_ray.core.images.decode import grey_to_8_bit, read_image
from medsae_ray.core.images.formats import image_orientation, upright
from medsae_ray.errors import EncoderError, ImageError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray
_COLOURS = (1, 3)
_MOST_CHANNELS = 4
"""The most channels of an image, with transparency, which is not read from arrays."""
_READ = "[H, W], or with an axis of 1 or 3 channels, first or last"
_UNIT_ENDS = 1
"""The upper limit of floating point pixels in 0..1."""
_BYTES_BEGIN = 2
"""The lower limit of the brightest of pixels in 0..255; values between the limits may be 0..1 after an
interpolation."""


def listed(images: "ImageLike | Iterable[ImageLike]") -> Sequence[ImageLike]:
    """Return one image as a list of one, and several unchanged. EncoderError for an array that may be either."""
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, bytes | bytearray):
        raise EncoderError("images are bytes; give a path, a PIL image or an array, or a list of them")
    array = _array(images)
    if array is None or array.dtype.kind in "OUS":
        return images if isinstance(images, Sequence) else list(images)
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] <= _MOST_CHANNELS):
        return [array]  # several images would be four pixels wide at most
    if array.ndim not in (3, 4):
        raise EncoderError(f"an array of shape {list(array.shape)} is no image; {_READ} is read, or a list of such")
    if array.ndim == 3 and array.shape[0] == max(_COLOURS):
        raise EncoderError(
            f"an array of shape {list(array.shape)} may be one image in colour or three in grey; give a list: [array] "
            "for one, list(array) for three"
        )
    return list(array)


def opened(image: ImageLike) -> Image.Image:
    """Decode one image. ImageError if it cannot be used."""
    if isinstance(image, ImageFile.ImageFile):
        return _as_its_file(image)
    if isinstance(image, Image.Image):
        return image
    array = _array(image)
    if array is not None:
        return _from_array(array)
    if not isinstance(image, str | os.PathLike):
        raise ImageError("unsupported_mode", f"{type(image).__name__} is no path, PIL image or array")
    try:
        data = Path(image).read_bytes()
    except FileNotFoundError as error:
        raise ImageError("missing", "no such file") from error
    except (OSError, ValueError) as error:
        raise ImageError("unreadable", str(error)) from error
    return read_image(data)


def _as_its_file(image: ImageFile.ImageFile) -> Image.Image:
    """Read an untouched result of Image.open like the file at its path: turned as its EXIF says."""
    try:
        image.load()
    except (OSError, ValueError) as error:  # a damaged file, or one that was closed
        raise ImageError("corrupt", f"{type(error).__name__}: {error}") from error
    return image if image.format == "TIFF" else upright(image, image_orientation(image))  # Pillow turns TIFF itself


def _array(value: Any) -> np.ndarray | None:
    """Return a NumPy array, or a value that NumPy can view as one without a copy (a torch tensor)."""
    if isinstance(value, np.ndarray):
        return value
    if not hasattr(value, "__array__") or isinstance(value, str | Image.Image):
        return None
    tensor = value.detach().cpu() if hasattr(value, "detach") else value
    try:
        return np.asarray(tensor)
    except TypeError:  # bfloat16, which NumPy does not have
        return np.asarray(tensor.float())


def _from_array(array: np.ndarray) -> Image.Image:
    if array.size == 0:
        raise ImageError("empty", f"an array of shape {list(array.shape)}")
    pixels = _channels_last(array)
    if pixels.dtype.kind not in "buif":
        raise ImageError("unsupported_mode", f"an array of {array.dtype}; numbers are read")
    if pixels.dtype == np.bool_:
        return Image.fromarray(pixels.astype(np.uint8) * 255)
    if pixels.dtype == np.uint8:
        return Image.fromarray(pixels)
    if pixels.dtype.kind == "f":
        return Image.fromarray(_from_floats(pixels))
    if pixels.ndim == 2:
        return Image.fromarray(grey_to_8_bit(pixels))
    if pixels.min() < 0 or pixels.max() > 255:
        raise ImageError("out_of_range", f"colours span {pixels.min()}..{pixels.max()}; 0..255 is read")
    return Image.fromarray(pixels.astype(np.uint8))


def _channels_last(array: np.ndarray) -> np.ndarray:
    """Return the array as [H, W] or [H, W, 3]."""
    if array.ndim == 2:
        return array
    found = f"an array of shape {list(array.shape)}"
    if array.ndim != 3:
        raise ImageError("unsupported_mode", f"{found}; {_READ} is read")
    first, last = array.shape[0] in _COLOURS, array.shape[2] in _COLOURS
    if first == last:
        what = "either its first or its last axis may be the channels" if first else f"{_READ} is read"
        raise ImageError("unsupported_mode", f"{found}; {what}")
    image = np.moveaxis(array, 0, -1) if first else array
    return np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image)


def _from_floats(pixels: np.ndarray) -> np.ndarray:
    """Convert pixels in 0..1 or in 0..255 to uint8. The brightest pixel decides the range; an ambiguous one is
    refused."""
    low, high = float(pixels.min()), float(pixels.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ImageError("not_finite", "pixels that are NaN or Inf")
    span = f"floating point pixels span {low:g}..{high:g}"
    if low < 0 or high > 255:
        raise ImageError("out_of_range", f"{span}; 0..1 or 0..255 is read, bring them there first")
    if _UNIT_ENDS < high <= _BYTES_BEGIN:
        raise ImageError("out_of_range", f"{span}, which is neither 0..1 nor clearly 0..255; clip or scale them first")
    if high == _UNIT_ENDS and ((pixels == 0) | (pixels == 1)).all():
        raise ImageError(
            "out_of_range",
            f"{span} and are 0 or 1 throughout: white in 0..1, black in 0..255; give them as uint8 or bool",
        )
    scale = 255.0 if high <= _UNIT_ENDS else 1.0
    return np.rint(pixels.astype(np.float64) * scale).astype(np.uint8)
