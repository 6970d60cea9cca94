"""Look-up tables of DICOM: modality and VOI LUTs, palettes of colours, also segmented ones.

A table's descriptor has the number of entries (0 for 65536), the first value that is mapped, and the bits of an entry.
Its value representation, US or SS, follows other elements that implementations read differently, so it is not trusted:
a count is never negative, and the first mapped value has a sign where values can be negative. Entries are words of 16
bits, or bytes two to a word, in the file's byte order.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from medsae_ray.core.images.dicom.numbers import numbers, signed
from medsae_ray.errors import ImageError

if TYPE_CHECKING:
    from pydicom import Dataset

_DEPTHS = (8, 10, 12, 14, 16)
_COLOURS = ("Red", "Green", "Blue")


class Range(NamedTuple):
    """The range of values before a table."""

    low: float
    high: float


class LookupTable(NamedTuple):
    """A look-up table."""

    first: int
    """The value of the first entry."""
    entries: np.ndarray
    """The entries as int64 [n]."""
    bits: int
    """The bits of an entry: 2**bits - 1 is the brightest value."""

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """Return each value's entry, int64; values outside of the table have its first or last entry."""
        at = np.rint(np.clip(values, -(2.0**40), 2.0**40)).astype(np.int64) - self.first
        stored: np.ndarray = self.entries[at.clip(0, len(self.entries) - 1)]
        return stored


class Descriptor(NamedTuple):
    """The contents of a descriptor, its first mapped value as it was read."""

    entries: int
    first: int
    bits: int


def table(item: "Dataset", little: bool, before: Range) -> LookupTable:
    """Read the table of an item of a modality or VOI LUT sequence. Raises ImageError corrupt without one."""
    said = _descriptor(item, "LUTDescriptor", little)
    entries = _entries(_bytes(item, "LUTData", little), said)
    return LookupTable(_first(said, before), entries, _bits(said, [entries]))


def coloured(indices: np.ndarray, dataset: "Dataset", little: bool, before: Range) -> np.ndarray:
    """Return uint8 [H, W, 3] in the palette of `dataset`."""
    tables = [_colour(dataset, colour, little) for colour in _COLOURS]
    bits = _bits(tables[0][0], [entries for _, entries in tables])
    channels = [LookupTable(_first(said, before), entries, bits)(indices) for said, entries in tables]
    rgb: np.ndarray = np.rint(np.stack(channels, axis=-1) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)
    return rgb


def _colour(dataset: "Dataset", colour: str, little: bool) -> tuple[Descriptor, np.ndarray]:
    said = _descriptor(dataset, f"{colour}PaletteColorLookupTableDescriptor", little)
    name = f"{colour}PaletteColorLookupTableData"
    if name in dataset:
        return said, _entries(_bytes(dataset, name, little), said)
    packed = np.frombuffer(_bytes(dataset, f"Segmented{name}", little), "u1" if said.bits <= 8 else "<u2")
    entries = np.fromiter(_unfolded(packed.tolist(), said), np.int64)
    if len(entries) < said.entries:
        raise ImageError("corrupt", "a segmented palette with fewer entries than in its descriptor")
    return said, entries[: said.entries]


def _descriptor(item: "Dataset", tag: str, little: bool) -> Descriptor:
    found = numbers(item, tag, little)
    if len(found) < 3 or not all(value is not None and float(value).is_integer() for value in found[:3]):
        raise ImageError("corrupt", "a look-up table without a descriptor of three whole numbers")
    entries, first, bits = (int(value) for value in found[:3] if value is not None)
    if not 1 <= bits <= 16:
        raise ImageError("corrupt", f"a look-up table of {bits} bits")
    return Descriptor(entries % 2**16 or 2**16, first, bits)


def _bytes(item: "Dataset", tag: str, little: bool) -> bytes:
    """Return an element's words, in little-endian order."""
    found: Any = item.get(tag)
    if isinstance(found, bytes):
        words = np.frombuffer(found + b"\0" * (len(found) % 2), "<u2" if little else ">u2")
        return words.astype("<u2").tobytes()
    words = np.array([-1 if value is None else value for value in numbers(item, tag, little)], np.float64)
    if not len(words) or not np.isfinite(words).all():
        raise ImageError("corrupt", "a look-up table without entries")
    return (words.astype(np.int64) % 2**16).astype("<u2").tobytes()


def _entries(data: bytes, said: Descriptor) -> np.ndarray:
    """Return the entries as int64 [n]."""
    count = said.entries
    if len(data) >= 2 * count:
        return np.frombuffer(data, "<u2", count).astype(np.int64)
    if len(data) >= count and (said.bits <= 8 or len(data) <= count + 1):
        return np.frombuffer(data, "u1", count).astype(np.int64)
    raise ImageError("corrupt", f"a look-up table of {len(data)} bytes, but {count} entries in its descriptor")


def _bits(said: Descriptor, tables: list[np.ndarray]) -> int:
    """Return the bits of an entry: the descriptor's, unless the entries do not fit or stay below a sixteenth of it, as
    8 or 12 bits in words of 16 do."""
    needed = max(int(max(entries.max() for entries in tables)).bit_length(), 1)
    held = next(depth for depth in _DEPTHS if depth >= needed)
    return held if held == 8 < said.bits or held <= said.bits - 4 else max(said.bits, needed)


def _first(said: Descriptor, before: Range) -> int:
    """Return the first mapped value: signed if values can be below 0, unless the table then misses all of them."""
    if not -(2**15) <= said.first < 2**16:
        return said.first
    ways = (signed(said.first), said.first % 2**16)
    for first in ways if before.low < 0 else reversed(ways):
        if first <= before.high and first + said.entries > before.low:
            return first
    return ways[0 if before.low < 0 else 1]


def _unfolded(packed: list[int], said: Descriptor) -> Iterator[int]:
    """Yield the entries of a segmented table (PS3.3 C.7.9.2), at most the descriptor's number and one segment."""
    made: list[int] = []
    width = 1 if said.bits <= 8 else 2

    def segment(at: int, nested: bool) -> int:
        """Unfold the segment at `at`, and return the position of the next one."""
        code, length = packed[at], packed[at + 1]
        if code == 0:
            made.extend(packed[at + 2 : at + 2 + length])
            return at + 2 + length
        if code == 1:
            made.extend(np.rint(np.linspace(made[-1], packed[at + 2], length + 1)[1:]).astype(int).tolist())
            return at + 3
        if code != 2 or nested:
            raise ImageError("corrupt", "a segmented palette of an unknown kind")
        words = packed[at + 2 : at + 2 + 4 // width]
        to = sum(word << (8 * width * place) for place, word in enumerate(words)) // width
        for _ in range(length):
            if len(made) >= said.entries:
                break
            to = segment(to, nested=True)
        return at + 2 + 4 // width

    at = 0
    while at + 1 < len(packed) and len(made) < said.entries:
        at = segment(at, nested=False)
    yield from made
