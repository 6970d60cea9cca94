"""What a reader has to know before believing a run's numbers.

A stage says it of its artifact (`Stage.warnings`), whether the artifact was made now or before. It is printed under the
stage's tick and again at the end, and stands at the top of the report and in summary.json.
"""

from collections.abc import Iterable
from dataclasses import dataclass

CODES: dict[str, str] = {
    "l0_far_from_k": "On held-out images the SAE has over a fifth more or fewer active features than were asked for. "
    "More: the dictionary fits its training images by heart; use a smaller what.sae.width or more images.",
    "dead_features": "Over half of the SAE's features are active on no image at all. Use a smaller what.sae.width, or "
    "leave it out.",
    "copied_features": "Over a twentieth of the SAE's live features are copies of another (their activations on images "
    "correlate above 0.9). The report shows a group once. Use a smaller what.sae.width, or leave it out.",
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
