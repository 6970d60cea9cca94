"""What a section of gpu_check.py finds. Imports nothing, so that the list of sections can be shown by any Python."""

import os
import traceback
from collections.abc import Callable
from typing import NamedTuple

DEVICE = os.environ.get("GPU_CHECK_DEVICE", "cuda")
"""The device to check; "cpu" rehearses the sections, small, on a machine without a GPU."""
REHEARSED = DEVICE == "cpu"


class Row(NamedTuple):
    """One finding."""

    what: str
    found: str
    wanted: str = ""
    """The bound; empty for a measurement."""
    ok: bool = True


class NotChecked(Exception):
    """The reason why a section cannot be checked on this machine."""


def at_most(what: str, found: float, bound: float) -> Row:
    """Check a difference; NaN fails."""
    return Row(what, f"{found:.3g}", f"at most {bound:g}", bool(found <= bound))


def at_least(what: str, found: float, bound: float) -> Row:
    """Check a cosine or a count; NaN fails."""
    return Row(what, f"{found:.6g}", f"at least {bound:g}", bool(found >= bound))


def equal(what: str, found: object, wanted: object) -> Row:
    """Check that two things are the same."""
    return Row(what, str(found), str(wanted), bool(found == wanted))


def tried(what: str, call: Callable[[], list[Row]]) -> list[Row]:
    """Return the rows of one part of a section; an error becomes a row, so that the other parts are still checked."""
    try:
        return call()
    except Exception as error:
        traceback.print_exc()
        text = " ".join(str(error).split())[:300].replace("|", "/")
        return [Row(what, f"{type(error).__name__}: {text}", "no error", False)]
