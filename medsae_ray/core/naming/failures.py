"""The end of a run whose requests fail, before failures are kept as if they were answers."""

import re
from collections import Counter
from collections.abc import Iterable

from medsae_ray.errors import EngineError

FIRST = 20
"""The failures before any answer that end a run."""
_NUMBERS = re.compile(r"\b(?=\w*\d)[\w-]+")
"""The identifiers of requests, times and counts, in which two messages of one cause differ."""


class Failures:
    """The count of failures among `whole` requests, of which `answered` have been answered before.

    A few are the requests' own fault, are kept with their reason and count as wrong. Once more than half have failed,
    or the first 20 without one answer, the server or the model is at fault: `add` raises EngineError.
    """

    def __init__(self, what: str, whole: int, answered: int = 0) -> None:
        self.what, self.whole, self.answered = what, whole, answered
        self.failed = Counter[str]()
        self.said: dict[str, str] = {}

    def add(self, reasons: Iterable[str | None]) -> None:
        """Count one reason for each request; None for one that was answered."""
        for reason in reasons:
            if reason is None:
                self.answered += 1
                continue
            cause = _NUMBERS.sub("#", reason)
            self.failed[cause] += 1
            self.said.setdefault(cause, reason)
        if self.failed.total() > self.whole / 2 or (not self.answered and self.failed.total() >= FIRST):
            self._stop()

    def _stop(self) -> None:
        cause, times = self.failed.most_common(1)[0]
        raise EngineError(
            f"{self.failed.total()} of {self.whole} {self.what} could not be answered, {times} of them for this "
            f"reason: {self.said[cause]}. No result is drawn from them; the answers are kept, and the same run "
            "continues from there once the cause is fixed"
        )
