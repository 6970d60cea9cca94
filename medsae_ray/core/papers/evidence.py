"""What a run has to set beside published figures, as plain data, and what is read of it for one figure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

Row = Mapping[str, Any]


class Measured(NamedTuple):
    """A run's figure."""

    value: float | str
    n: int | None = None
    of: str = ""
    """What n counts."""
    low: float | None = None
    high: float | None = None
    note: str = ""


class Lacking(Exception):
    """The run has no such figure; the text is the reason."""


@dataclass(frozen=True)
class Evidence:
    """A finished run. The rows are those of its artifacts of that name."""

    summary: Mapping[str, Any]
    """summary.json."""
    arm: str | None
    """The arm of the paper that the run's encoder is; None if it is none of them, or the paper has no arms."""
    encoder: str
    """The kind of the run's encoder, in words."""
    sae: Mapping[str, Any]
    """The settings of its SAE."""
    last_epoch: Mapping[str, Any]
    """The figures of its SAE on the held-out images of its training."""
    counts: Mapping[str, int]
    """The numbers of its `images`, `patients`, `labels` and `heldout` images; of `scans NAME` of a dataset; and of
    images by their `split NAME` in the metadata."""
    features: Mapping[str, Any]
    """The figures of the record of stage `features`."""
    monosemanticity: Sequence[Row] = ()
    recovery: Sequence[Row] = ()
    retrieval: Sequence[Row] = ()
    sweep: Sequence[Row] = ()
    scores: Sequence[Row] = ()
    targets: Sequence[str] = ()
    """The paper's targets of probes."""
    published_sae: Mapping[str, Any] = field(default_factory=dict)
    """The settings of the SAE that a figure is of."""


def part_of(evidence: Evidence, key: str, asked_by: str) -> Any:
    """Return a part of the summary. Lacking if the recipe does not ask for it."""
    if evidence.summary.get(key) is None:
        raise Lacking(f"the recipe has no {asked_by}")
    return evidence.summary[key]


def known(value: Any, why: str) -> Any:
    """Return the value. Lacking with the reason if it is None."""
    if value is None:
        raise Lacking(why)
    return value
