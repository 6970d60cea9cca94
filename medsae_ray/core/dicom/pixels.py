"""The frames of a DICOM file as 8-bit images.

Stored values -> modality transform (LUT or rescale slope and intercept) -> window -> 0..255, MONOCHROME1 turned over:

| `window` | what is black and white |
|---|---|
| header | the file's VOI LUT, or the first of its windows (linear, linear exact or sigmoid); without any, minmax |
| minmax | the frame's least and greatest value, padding pixels left out |

Per-frame and shared functional groups of enhanced multi-frame files are heeded. Colour becomes RGB: YBR, palettes,
planar and interleaved, subsampled. Legend: H, W rows and columns.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from medsae_ray.core.dicom.parse import library, parse
from medsae_ray.core.dicom.streams import check_rle, check_size
from medsae_ray.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

WINDOWS = ("header", "minmax")
_PLUGINS = {
    # One decoder each, asked for by name, so that what else is installed changes nothing. GDCM is none of them: damaged
    # lossless JPEG ends the process (gdcm::Exception, python-gdcm 3.2.6).
    "1.2.840.10008.1.2.5": "pydicom",  # RLE
    "1.2.840.10008.1.2.4.50": "pillow",  # JPEG of 8 bits
    **dict.fromkeys(("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"), "pyjpegls"),
    **dict.fromkeys((f"1.2.840.10008.1.2.4.{n}" for n in (90, 91, 201, 202, 203)), "pylibjpeg"),  # JPEG 2000
}
_TURBO = ("1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")
"""JPEG of 12 bits, and JPEG without loss: libjpeg-turbo 3, as imagecodecs has it."""
_RLE = "1.2.840.10008.1.2.5"
_GROUPS = {
    "RescaleSlope": "PixelValueTransformationSequence",
    "RescaleIntercept": "PixelValueTransformationSequence",
    "WindowCenter": "FrameVOILUTSequence",
    "WindowWidth": "FrameVOILUTSequence",
    "VOILUTFunction": "FrameVOILUTSequence",
}


class Dicom:
    """One file's frames. Raises ImageError if it cannot be parsed or has no pixels."""

    def __init__(self, data: bytes, *, max_pixels: int, window: str = "header") -> None:
        if window not in WINDOWS:
            raise ValueError(f"window is {window!r}; it may be one of {', '.join(WINDOWS)}")
        self.dataset, self.window = parse(data), window
        try:
            self.rows, self.columns = (int(self.dataset.get(side) or 0) for side in ("Rows", "Columns"))
            self.frames = int(self.dataset.get("NumberOfFrames") or 1)
            self._check(max_pixels)
        except ImageError:
            raise
        except Exception as error:
            raise ImageError("corrupt", f"{type(error).__name__} in the header") from error

    def image(self, frame: int = 0) -> Image.Image:
        """Frame `frame` (from 0) of mode L or RGB. ImageError if it cannot be decoded."""
        try:
            with np.errstate(all="ignore"):
                return self._image(frame)
        except ImageError:
            raise
        except Exception as error:  # decoders raise RuntimeError, ValueError, AttributeError, NotImplementedError, ...
            raise ImageError(self._fault(error), f"{type(error).__name__} in the pixels") from error

    def _image(self, frame: int) -> Image.Image:
        pixels = self._decoded(frame)
        if pixels.ndim == 3:
            return Image.fromarray(self._colour(pixels))
        if self.dataset.PhotometricInterpretation == "PALETTE COLOR":
            return Image.fromarray(self._colour(library().pixels.apply_color_lut(pixels, self.dataset)))
        return Image.fromarray(self._grey(pixels, frame))

    def _check(self, max_pixels: int) -> None:
        dataset = self.dataset
        if not any(tag in dataset for tag in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise ImageError("no_pixels" if "Rows" not in dataset else "truncated", "no pixel data")
        if not (self.rows and self.columns):
            raise ImageError("empty", f"{self.rows} x {self.columns} pixels")
        if self.rows * self.columns > max_pixels:
            raise ImageError(
                "too_large", f"the header says {self.columns} x {self.rows} pixels, at most {max_pixels} are read"
            )
        if "TransferSyntaxUID" not in dataset.file_meta:
            # A file without it is what the standard makes the default, or what its first element shows it to be.
            implicit, little = dataset.original_encoding
            kind = "ImplicitVRLittleEndian" if implicit else f"ExplicitVR{'Little' if little else 'Big'}Endian"
            dataset.file_meta.TransferSyntaxUID = getattr(library().uid, kind)

    def _decoded(self, frame: int) -> np.ndarray:
        """Stored values [H, W], or colours [H, W, 3]."""
        syntax = self.dataset.file_meta.TransferSyntaxUID
        if not syntax.is_transfer_syntax or syntax.is_private:
            raise ImageError("unsupported_mode", "an unknown transfer syntax")
        if not 0 <= frame < self.frames:
            raise ImageError("missing", f"frame {frame} of {self.frames}")
        if not syntax.is_encapsulated:
            pixels = library().pixels.pixel_array(self.dataset, index=frame)
        elif syntax in _TURBO:
            pixels = self._turbo(self._frame(syntax, frame))
        elif syntax in _PLUGINS:
            self._frame(syntax, frame)
            pixels = library().pixels.pixel_array(self.dataset, index=frame, decoding_plugin=_PLUGINS[syntax])
        else:
            raise ImageError("unsupported_mode", "a transfer syntax that is not read")
        if pixels.shape[:2] != (self.rows, self.columns):
            raise ImageError("corrupt", f"{list(pixels.shape)} pixels, the header says {self.rows} x {self.columns}")
        return pixels

    def _turbo(self, data: bytes) -> np.ndarray:
        import imagecodecs

        pixels = np.asarray(imagecodecs.jpeg8_decode(data))
        if pixels.ndim == 3 and str(self.dataset.PhotometricInterpretation).startswith("YBR"):
            return library().pixels.convert_color_space(pixels, "YBR_FULL", "RGB")
        if self.dataset.PixelRepresentation == 1:
            spare = 8 * pixels.dtype.itemsize - int(self.dataset.BitsStored)
            return (pixels << spare).view(f"i{pixels.dtype.itemsize}") >> spare
        return pixels

    def _frame(self, syntax: str, frame: int) -> bytes:
        """A compressed frame, if it does not claim to be larger than the header says."""
        data = library().encaps.get_frame(self.dataset.PixelData, frame, number_of_frames=self.frames)
        if syntax == _RLE:
            samples = int(self.dataset.SamplesPerPixel) * -(-int(self.dataset.BitsAllocated) // 8)
            check_rle(data, self.rows * self.columns * samples)
        else:
            check_size(data, self.rows, self.columns)
        return data

    def _colour(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3]; deeper colours are scaled by the bits that are stored."""
        colour = pixels_HWC[..., :3]
        if colour.shape[2] != 3:
            raise ImageError("unsupported_mode", f"{colour.shape[2]} samples per pixel")
        if colour.dtype == np.uint8:
            return np.ascontiguousarray(colour)
        bits = int(self.dataset.BitsStored)
        if self.dataset.PhotometricInterpretation == "PALETTE COLOR":
            bits = 8 * colour.dtype.itemsize
        return np.rint(colour.astype(np.float64) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)

    def _grey(self, stored_HW: np.ndarray, frame: int) -> np.ndarray:
        """uint8 [H, W]."""
        values = self._modality(stored_HW, frame)
        if not np.isfinite(values).all():
            raise ImageError("not_finite", "pixels that are no finite numbers")
        shown = self._shown(values, self._padding(stored_HW), frame)
        grey = np.rint(255 * shown.clip(0, 1)).astype(np.uint8)
        return 255 - grey if self.dataset.PhotometricInterpretation == "MONOCHROME1" else grey

    def _modality(self, stored_HW: np.ndarray, frame: int) -> np.ndarray:
        """Stored values as what they measure, Hounsfield units for instance: float64 [H, W]."""
        if self.dataset.get("ModalityLUTSequence"):
            return library().pixels.apply_modality_lut(stored_HW, self.dataset).astype(np.float64)
        slope, intercept = self._of(frame, "RescaleSlope"), self._of(frame, "RescaleIntercept")
        scaled = stored_HW.astype(np.float64) * float(1 if slope is None else slope)
        return scaled + float(intercept or 0)

    def _shown(self, values_HW: np.ndarray, padding_HW: np.ndarray | None, frame: int) -> np.ndarray:
        """Values as brightness, 0..1 within the window."""
        dataset = self.dataset
        if self.window == "header":
            if dataset.get("VOILUTSequence"):
                return self._by_lut(values_HW)
            centre, width = _first(self._of(frame, "WindowCenter")), _first(self._of(frame, "WindowWidth"))
            if centre is not None and width is not None and width > 0:
                return windowed(values_HW, centre, width, str(self._of(frame, "VOILUTFunction") or "LINEAR"))
        inside = values_HW if padding_HW is None or padding_HW.all() else values_HW[~padding_HW]
        low, high = inside.min(), inside.max()
        return (values_HW - low) / (high - low) if high > low else np.zeros_like(values_HW)

    def _by_lut(self, values_HW: np.ndarray) -> np.ndarray:
        table = self.dataset.VOILUTSequence[0]
        bits = int(table.LUTDescriptor[2])
        found = library().pixels.apply_voi(np.rint(values_HW).astype(np.int64), self.dataset)
        return found.astype(np.float64) / (2**bits - 1)

    def _padding(self, stored_HW: np.ndarray) -> np.ndarray | None:
        """Where pixels fill up what was not exposed; None without such."""
        first = self.dataset.get("PixelPaddingValue")
        if first is None:
            return None
        last = self.dataset.get("PixelPaddingRangeLimit", first)
        low, high = sorted((int(first), int(last)))
        return (stored_HW >= low) & (stored_HW <= high)

    def _of(self, frame: int, tag: str) -> Any:
        """An element of the file, or of the frame's own or the shared functional groups."""
        if (value := self.dataset.get(tag)) is not None:
            return value
        for groups in self._functional(frame):
            inner = groups.get(_GROUPS[tag])
            if inner and (value := inner[0].get(tag)) is not None:
                return value
        return None

    def _functional(self, frame: int) -> "Iterator[Dataset]":
        per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence") or []
        if frame < len(per_frame):
            yield per_frame[frame]
        yield from (self.dataset.get("SharedFunctionalGroupsSequence") or [])[:1]

    def _fault(self, error: Exception) -> str:
        """truncated if there are fewer bytes than pixels, unsupported_mode for what no decoder knows, else corrupt."""
        if isinstance(error, NotImplementedError) or "does not support" in str(error):
            return "unsupported_mode"
        if isinstance(error, EOFError) or "less than expected" in str(error):
            return "truncated"
        return "corrupt"


def windowed(values_HW: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Brightness of PS3.3 C.11.2.1.2 and C.11.2.1.3, on a scale of 0 to 1 and not yet clipped."""
    if function.strip().upper() == "SIGMOID":
        return 1 / (1 + np.exp((-4 * (values_HW - centre) / width).clip(-700, 700)))
    if function.strip().upper() == "LINEAR_EXACT":
        return (values_HW - centre) / width + 0.5
    if width <= 1:
        return np.where(values_HW <= centre - 0.5, 0.0, 1.0)
    return (values_HW - (centre - 0.5)) / (width - 1) + 0.5


def _first(value: Any) -> float | None:
    """The first of one or several numbers; None for none, or for what is no finite number."""
    values = value if isinstance(value, list | tuple) or hasattr(value, "__len__") else [value]
    if not len(values) or values[0] is None or values[0] == "":
        return None
    return float(values[0]) if np.isfinite(float(values[0])) else None
