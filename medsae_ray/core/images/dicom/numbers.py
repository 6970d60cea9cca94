"""Numbers of a DICOM header, in whatever value representation they come.

Vendors write numbers as text, in places of binary ones too, and not always as the standard wants them. A text is a
number if it is one as a whole: digits with a point or a comma before the fraction, an exponent, blanks and zero bytes
around it. Anything else (`0x28`, `1,024.5`, `N/A`, `inf`) is no number, and never a part of one.
"""

import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from medsae_ray.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:[.,][0-9]*)?|[.,][0-9]+)(?:[eEdD][+-]?[0-9]+)?")
_AROUND = " \0\t\r\n"


def number(value: Any) -> float | None:
    """One value of an element: None if it is blank, NaN if it is no finite number."""
    text = getattr(value, "original_string", value)
    if text is None:
        return None
    if isinstance(text, str):
        text = text.strip(_AROUND)
        if not text:
            return None
        if not _NUMBER.fullmatch(text):
            return math.nan
        value = re.sub("[dD]", "e", text.replace(",", "."))
    try:
        found = float(value)
    except (TypeError, ValueError, OverflowError):
        return math.nan
    return found if math.isfinite(found) else math.nan


def numbers(dataset: "Dataset", tag: str, little: bool = True) -> list[float | None]:
    """Every value of an element, as `number` reads it; [] without the element. Bytes of no type are text where the
    standard has text, else words of 16 bits, whose order `little` tells."""
    try:
        found = dataset.get(tag)
    except Exception:  # bytes that are no value of the element's type: struct.error, BytesLengthException, ...
        return [math.nan]
    if isinstance(found, bytes) and _is_text(tag):
        found = found.decode("latin-1")
    if isinstance(found, bytes):
        found = np.frombuffer(found[: len(found) // 2 * 2], "<u2" if little else ">u2").tolist()
    if isinstance(found, str):
        found = found.split("\\")
    several = hasattr(found, "__len__") and hasattr(found, "__getitem__")
    return [number(value) for value in found] if several else [] if found is None else [number(found)]


def _is_text(tag: str) -> bool:
    from pydicom.datadict import dictionary_VR

    return dictionary_VR(tag) in ("DS", "IS")


def first_number(dataset: "Dataset", tag: str, little: bool = True) -> float | None:
    """The first value of an element; None without one, NaN if it is no number."""
    return next(iter(numbers(dataset, tag, little)), None)


def whole(dataset: "Dataset", tag: str) -> int | None:
    """The whole number that an element is; None if it is absent or blank. ImageError corrupt if it is not one."""
    found = first_number(dataset, tag)
    if found is not None and not float(found).is_integer():
        raise ImageError("corrupt", f"{tag} is no whole number")
    return None if found is None else int(found)


def signed(value: int, bits: int = 16) -> int:
    """What `bits` bits mean as a number with a sign, whether or not they were read as one."""
    number: int = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    return number
