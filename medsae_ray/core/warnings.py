"""What a reader has to know before believing a run's numbers.

A stage says it of its artifact (`Stage.warnings`), whether the artifact was made now or before. It is printed under the
stage's tick and again at the end, and stands at the top of the report and in summary.json.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "uncertain_without_absent": "A label has -1 and no 0. -1 counts as uncertain and is left out, so the label has no "
    "negatives; if it was meant as absent, the dataset's `uncertain: zero` says so.",
}
"""Every code, with what it means and what to do about it."""


@dataclass(frozen=True)
class RunWarning:
    """One doubt about one run."""

    code: str
    """A key of `CODES`, for programs."""
    message: str
    """What was found and what to do, for people. It quotes no identifier and no cell of a table."""
    value: float | int | str | None = None
    """The figure that gave rise to it."""

    def __post_init__(self) -> None:
        assert self.code in CODES, f"warning code {self.code!r} is not documented in CODES"


def distinct(warnings: Iterable[RunWarning]) -> list[RunWarning]:
    """Each warning once, in the order in which they were first given."""
    return list(dict.fromkeys(warnings))
