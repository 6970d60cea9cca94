"""What a reader has to know before believing a run's numbers.

A stage says it of its artifact (`Stage.warnings`), whether the artifact was made now or before. It is printed under the
stage's tick and again at the end, and stands at the top of the report and in summary.json.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "column_decides_label": "A metadata column is a label in other words: knowing one is knowing the other. Shortcuts "
    "by this column are not reported; leave it out of the metadata, or ask whether the label was made from it.",
    "datasets_disagree": "A feature's AUROC for a label is another in one dataset than in a second, or than in all "
    "together (their intervals do not meet). The figure of all mixes differences between datasets with differences "
    "between patients: read it dataset by dataset (findings.<label>.by_dataset).",
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
