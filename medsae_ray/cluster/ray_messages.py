"""Ray's own messages in the middle of a run's log, cut to a line each.

A raylet's end prints the last 20 lines of its log, a dump of its state. Neither `log_to_driver=False` nor any other
setting prevents such messages.
"""

import re
from typing import Any

from medsae_ray.cluster.ray_private import Print, print_through

LONGEST = 300
"""The most characters of one message."""
_TAIL = re.compile("Possible reasons|This can happen when")
"""The words that begin Ray's guesses and dumps."""


def shorten() -> None:
    """Print messages of raylets as one line from now on, in this process."""
    print_through(_short)


def _short(printed: Print) -> Print:
    if hasattr(printed, "shortened"):
        return printed

    def short(data: dict[str, Any], ignore_prefix: bool) -> None:
        if data.get("pid") == "raylet":
            data = data | {"lines": [brief(message) for message in data["lines"]]}
        printed(data, ignore_prefix)

    short.shortened = True  # type: ignore[attr-defined]
    return short


def brief(message: str) -> str:
    """Return the first line of a message, without guesses and dumps."""
    line = next(iter(_TAIL.split(message)[0].strip().splitlines()), "")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
