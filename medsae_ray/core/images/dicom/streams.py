"""Checks of compressed frames' own headers before decoding.

Decoders allocate what a code stream claims. A frame of 512 x 512 whose JPEG claims 60000 x 60000 is refused here.
"""

import struct
from collections.abc import Iterator

import numpy as np

from medsae_ray.errors import ImageError

_NOT_FRAMES = {0xC4, 0xC8, 0xCC}
_ALONE = {0x01, *range(0xD0, 0xD9)}
_PROBED = 2**23  # bytes of a run-length frame up to which no check is needed


def check_size(frame: bytes, rows: int, columns: int) -> None:
    """Raise ImageError if `frame` is JPEG, JPEG-LS or JPEG 2000 of another size than in its DICOM header."""
    found = jpeg_size(frame) if frame[:2] == b"\xff\xd8" else j2k_size(frame)
    if found and found != (rows, columns):
        raise ImageError("corrupt", f"a code stream of {found[0]} x {found[1]}, but {rows} x {columns} in the header")


def jpeg_size(frame: bytes) -> tuple[int, int] | None:
    """Return (height, width) of the frame header of JPEG (SOF0 to SOF15) or JPEG-LS (SOF55); None without one."""
    for marker, body in _segments(frame):
        if _is_frame(marker) and len(body) >= 5:
            height, width = struct.unpack(">HH", body[1:5])
            return height, width
    return None


def jpeg_colours(frame: bytes, said: str) -> str:
    """Return RGB or YBR for the components of a JPEG of three; `said` is the header's claim.

    As in libjpeg and most viewers, Adobe's marker decides, then JFIF's (always YBR), then the components' names (R, G,
    B; 1, 2, 3 are YBR), and chroma of fewer pixels is never RGB. Without any of these the header decides.
    """
    told, names, factors = "", b"", b""
    for marker, body in _segments(frame):
        if marker == 0xEE and body[:5] == b"Adobe" and body[11:12] in (b"\0", b"\1", b"\2"):
            told = "YBR" if body[11] else "RGB"
        elif marker == 0xE0 and body[:4] == b"JFIF":
            told = told or "YBR"
        elif _is_frame(marker) and len(body) >= 15:
            names, factors = body[6:15:3], body[7:15:3]
    if told:
        return told
    if names in (b"RGB", b"rgb"):
        return "RGB"
    return "YBR" if said.startswith("YBR") or names == b"\1\2\3" or len(set(factors)) > 1 else "RGB"


def _is_frame(marker: int) -> bool:
    return (0xC0 <= marker <= 0xCF and marker not in _NOT_FRAMES) or marker == 0xF7


def _segments(frame: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (marker, content) of a JPEG's segments before the scan."""
    at = 2
    while at + 4 <= len(frame) and frame[at] == 0xFF:
        marker = frame[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _ALONE:
            at += 2
        elif marker == 0xDA:
            return
        else:
            length = max(struct.unpack(">H", frame[at + 2 : at + 4])[0], 2)
            yield marker, frame[at + 4 : at + 2 + length]
            at += 2 + length


def j2k_size(frame: bytes) -> tuple[int, int] | None:
    """Return (height, width) of JPEG 2000's SIZ marker, also within a JP2 file; None without one."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 4096)
    if at < 0 or len(frame) < at + 24:
        return None
    width, height, left, top = struct.unpack(">IIII", frame[at + 8 : at + 24])
    return height - top, width - left


def j2k_is_rgb(frame: bytes) -> bool:
    """Return True if a JPEG 2000 stream transforms colours itself (the COD marker), so that it decodes to RGB."""
    at = frame.find(b"\xff\x4f\xff\x51", 0, 4096) + 2
    while at >= 2 and at + 4 <= len(frame) and frame[at] == 0xFF and frame[at + 1] != 0x90:
        if frame[at + 1] == 0x52 and len(frame) > at + 8:
            return frame[at + 8] == 1
        at += 2 + max(struct.unpack(">H", frame[at + 2 : at + 4])[0], 2)
    return False


def check_rle(frame: bytes, expected: int) -> None:
    """Raise ImageError if a run-length encoded frame would become more than `expected` bytes and a little padding.

    A byte of PackBits becomes up to 64. Frames that stay small even so are not checked.
    """
    if len(frame) * 64 <= max(_PROBED, 2 * expected):
        return
    codes = np.frombuffer(frame, np.uint8)
    at, total = 64, 0
    while at < len(codes):
        code = int(codes[at])
        total += code + 1 if code < 128 else (257 - code if code > 128 else 0)
        at += code + 2 if code < 128 else (2 if code > 128 else 1)
        if total > expected + 2**16:
            raise ImageError("corrupt", f"run lengths of more than {expected} bytes")
