"""The way from stored to displayed grey values: modality transform, VOI LUT or window, then padding as background.

Enhanced multi-frame files define each of these per frame, for all frames, or at the top of the file; the innermost
definition counts. A slope of 0, which would make all values equal, counts as missing. An invalid slope or intercept
leaves values that are not finite (reason not_finite); an invalid window, or one not above 0 wide, is ignored.
"""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from medsae_ray.core.images.dicom.luts import Range, table
from medsae_ray.core.images.dicom.numbers import first_number, numbers, signed, whole
from medsae_ray.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

_PADDING = ("PixelPaddingValue", "FloatPixelPaddingValue", "DoubleFloatPixelPaddingValue")
_LIMITS = ("PixelPaddingRangeLimit", "FloatPixelPaddingRangeLimit", "DoubleFloatPixelPaddingRangeLimit")


class GreyValues(NamedTuple):
    """The grey values of an image before any window."""

    value_HW: np.ndarray
    """The measured values, float64."""
    window: tuple[float, float] | None = None
    """The centre and width of the file's own linear window, if it has one."""
    inverted: bool = False
    """True if the least value is white."""


class Greys:
    """The display of one file's grey frames. `window` is header or minmax; `little` the byte order of its words."""

    def __init__(self, dataset: "Dataset", window: str, little: bool) -> None:
        self.dataset, self.window, self.little = dataset, window, little
        self.odd = False
        """True if an invalid number of the file was ignored."""
        self.bits = whole(dataset, "BitsStored") or whole(dataset, "BitsAllocated") or 16
        self.has_sign = whole(dataset, "PixelRepresentation") == 1

    @property
    def stored(self) -> Range:
        """The range of stored values."""
        half = 2 ** (self.bits - 1)
        return Range(-half, half - 1) if self.has_sign else Range(0, 2 * half - 1)

    def shown(self, stored_HW: np.ndarray, frame: int) -> np.ndarray:
        """Return uint8 [H, W]. Raises ImageError not_finite, corrupt."""
        padding_HW = self._padding(stored_HW)
        values_HW, before = self._measured(stored_HW, frame)
        if not np.isfinite(values_HW).all():
            raise ImageError("not_finite", "pixels that are not finite numbers")
        grey = np.rint(255 * self._brightness(values_HW, padding_HW, before, frame).clip(0, 1)).astype(np.uint8)
        if self.dataset.PhotometricInterpretation == "MONOCHROME1":
            grey = 255 - grey
        return np.where(padding_HW, np.uint8(0), grey)

    def values(self, stored_HW: np.ndarray, frame: int) -> GreyValues:
        """Return the measured values, padding as the least of the others. Raises ImageError not_finite, corrupt."""
        padding_HW = self._padding(stored_HW)
        value_HW, _ = self._measured(stored_HW, frame)
        if not np.isfinite(value_HW).all():
            raise ImageError("not_finite", "pixels that are not finite numbers")
        if padding_HW.any() and not padding_HW.all():
            value_HW = np.where(padding_HW, value_HW[~padding_HW].min(), value_HW)
        windows = map(self._window, self._levels(frame, "FrameVOILUTSequence"))
        window = next(filter(None, windows), None) if self.window == "header" else None
        return GreyValues(value_HW, window, self.dataset.PhotometricInterpretation == "MONOCHROME1")

    def _measured(self, stored_HW: np.ndarray, frame: int) -> tuple[np.ndarray, Range]:
        """Return the measured values, Hounsfield units for instance, as float64 [H, W], and their range."""
        for level in self._levels(frame, "PixelValueTransformationSequence"):
            if item := _item(level, "ModalityLUTSequence"):
                lut = table(item, self.little, self.stored)
                return lut(stored_HW).astype(np.float64), Range(0, 2**lut.bits - 1)
            slope, intercept = first_number(level, "RescaleSlope"), first_number(level, "RescaleIntercept")
            if slope is not None or intercept is not None:
                slope, intercept = slope or 1.0, intercept or 0.0
                ends = sorted(slope * end + intercept for end in self.stored)
                return stored_HW.astype(np.float64) * slope + intercept, Range(ends[0], ends[1])
        return stored_HW.astype(np.float64), self.stored

    def _brightness(self, values_HW: np.ndarray, padding_HW: np.ndarray, before: Range, frame: int) -> np.ndarray:
        """Return values as brightness, 0..1 within the window."""
        if self.window == "header":
            for level in self._levels(frame, "FrameVOILUTSequence"):
                if item := _item(level, "VOILUTSequence"):
                    lut = table(item, self.little, before)
                    brightness: np.ndarray = lut(values_HW) / (2**lut.bits - 1)
                    return brightness
                if found := self._window(level):
                    return windowed(values_HW, *found, str(level.get("VOILUTFunction") or "LINEAR"))
        inside = values_HW[~padding_HW]
        low, high = (inside.min(), inside.max()) if inside.size else (0, 0)
        return (values_HW - low) / (high - low) if high > low else np.zeros_like(values_HW)

    def _window(self, level: "Dataset") -> tuple[float, float] | None:
        """Return centre and width of the first valid window."""
        centres, widths = numbers(level, "WindowCenter", self.little), numbers(level, "WindowWidth", self.little)
        self.odd |= any(value is not None and math.isnan(value) for value in (*centres, *widths))
        for centre, width in zip(centres, widths, strict=False):
            if centre is not None and width is not None and math.isfinite(centre) and width > 0:
                return centre, width
        return None

    def _padding(self, stored_HW: np.ndarray) -> np.ndarray:
        """Return the mask of padding pixels, which were not exposed, bool [H, W]."""
        ends = [self._padding_value(tags, stored_HW.dtype) for tags in (_PADDING, _LIMITS)]
        if ends[0] is None:
            return np.zeros(stored_HW.shape, bool)
        low, high = sorted((ends[0], ends[0] if ends[1] is None else ends[1]))
        return (stored_HW >= low) & (stored_HW <= high)

    def _padding_value(self, tags: tuple[str, ...], dtype: np.dtype) -> float | None:
        found = [value for tag in tags if (value := first_number(self.dataset, tag, self.little)) is not None]
        self.odd |= any(map(math.isnan, found))
        value = next((value for value in found if not math.isnan(value)), None)
        if value is None or dtype.kind == "f" or not value.is_integer():
            return value
        return self._as_stored(int(value))

    def _as_stored(self, value: int) -> int:
        """Return a value of 16 bits as a stored one, with the sign of the pixels' representation."""
        low, high = self.stored
        if not -(2**15) <= value < 2**16 or low <= value <= high:
            return value
        value = signed(value) if self.has_sign else value % 2**16
        return signed(value, self.bits) if self.has_sign and not low <= value <= high else value

    def _levels(self, frame: int, sequence: str) -> "Iterator[Dataset]":
        """Yield the definitions of the frame itself, those of all frames, and the file's."""
        per_frame = self.dataset.get("PerFrameFunctionalGroupsSequence") or []
        shared = self.dataset.get("SharedFunctionalGroupsSequence") or []
        for groups in (per_frame[frame : frame + 1], shared[:1]):
            yield from (groups[0].get(sequence) or [])[:1] if groups else ()
        yield self.dataset


def _item(level: "Dataset", sequence: str) -> "Dataset | None":
    """Return the first item of a sequence; None if it is missing or empty, as anonymisers leave it."""
    return next((item for item in (level.get(sequence) or [])[:1] if len(item)), None)


def windowed(values_HW: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """Return the brightness of PS3.3 C.11.2.1.2 and C.11.2.1.3, on a scale of 0 to 1 and not yet clipped.

    LINEAR is not defined for a width below 1, which windows of values in small units have: they are LINEAR_EXACT.
    """
    function = function.strip(" \0").upper().replace(" ", "_")
    if function == "SIGMOID":
        brightness: np.ndarray = 1 / (1 + np.exp((-4 * (values_HW - centre) / width).clip(-700, 700)))
        return brightness
    if function == "LINEAR_EXACT" or width < 1:
        return (values_HW - centre) / width + 0.5
    if width == 1:
        return np.where(values_HW <= centre - 0.5, 0.0, 1.0)
    return (values_HW - (centre - 0.5)) / (width - 1) + 0.5
