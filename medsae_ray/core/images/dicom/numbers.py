"""Numbers of a DICOM header, in any value representation.

Vendors write numbers as text, also in place of binary ones, and not always by the standard. A text is a number if the
whole of it is one: digits with a point or a comma before the fraction, an exponent, blanks and zero bytes around it.
Anything else (`0x28`, `1,024.5`, `N/A`, `inf`) is not a number, nor is a part of it read as one.
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
    """Return one value of an element: None if it is blank, NaN if it is not a finite number."""
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
    """Return every value of an element, read by `number`; [] without the element. Bytes of no type are text where the
    standard has text, else words of 16 bits in the byte order `little`."""
    try:
        found = dataset.get(tag)
    except Exception:  # bytes that do not fit the element's type: struct.error, BytesLengthException, ...
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
    """Return the first value of an element; None without one, NaN if it is not a number."""
    return next(iter(numbers(dataset, tag, little)), None)


def whole(dataset: "Dataset", tag: str) -> int | None:
    """Return an element's whole number; None if it is absent or blank. Raises ImageError corrupt for another value."""
    found = first_number(dataset, tag)
    if found is not None and not float(found).is_integer():
        raise ImageError("corrupt", f"{tag} is not a whole number")
    return None if found is None else int(found)


def signed(value: int, bits: int = 16) -> int:
    """Return `bits` bits read as a signed number."""
    number: int = (value + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)
    return number
