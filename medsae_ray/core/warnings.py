"""What a reader has to know before believing a run's numbers.

A stage says it of its artifact (`Stage.warnings`), whether the artifact was made now or before. It is printed under the
stage's tick and again at the end, and stands at the top of the report and in summary.json.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "model-blind": "The vision-language model tells no label of this data set from its absence (no ceiling's interval, "
    "corrected for the number of labels, lies above 0.5). No name is verified; take a model that knows such images.",
    "no-ceiling": "What the model can see is not known, as no label could be asked for. Names are verified against "
    "controls alone: give labels, if there are any, to know more.",
    "no-mass": "The model answers many questions with neither yes nor no; where P(yes) + P(no) is below 0.1 that is no "
    "answer. Its prompt template may be wrong, or it may not follow instructions.",
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
