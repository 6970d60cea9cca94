"""What Ray prints of its own accord in the middle of a run's log, kept to a line each.

The end of a raylet comes with the last 20 lines of its own log, which are a dump of its state. `log_to_driver=False`
does not keep such messages away, and no other setting does.
"""

import re
from typing import Any

from medsae_ray.cluster.ray_private import Print, print_through

LONGEST = 300
"""Characters of one message."""
_TAIL = re.compile("Possible reasons|This can happen when")
"""From here on Ray guesses, and dumps."""


def shorten() -> None:
    """Messages of raylets are printed as one line from now on, in this process."""
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
    """The first line of a message, without guesses and dumps."""
    line = next(iter(_TAIL.split(message)[0].strip().splitlines()), "")
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."
