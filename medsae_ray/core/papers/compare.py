"""Published figures beside those of a run, one row each."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypedDict

from medsae_ray.core.papers import measures, probing_measures
from medsae_ray.core.papers.evidence import Evidence, Lacking, Measured
from medsae_ray.core.papers.published import CONTROL, Call, Comparable, Figure, Paper


class PaperRow(TypedDict):
    """A published figure, and what a run has in its place."""

    id: str
    group: str
    figure: str
    """What it is, in words."""
    arm: str | None
    """The arm of the paper, an encoder; None if the figure is of all."""
    published: int | float | str
    published_n: str | None
    source: str
    definition: str | None
    here: int | float | str | None
    """The run's figure; None where `not_computed` says why."""
    n: int | None
    of: str
    """What n counts."""
    low: float | None
    """The interval of `here`; None where the run has none."""
    high: float | None
    note: str
    not_computed: str | None
    comparable: Comparable | None
    """Whether the two may be compared; None without a figure here."""
    differs: str
    """The reasons why they may differ."""


MEASURES: dict[str, Callable[..., Measured]] = {**measures.MEASURES, **probing_measures.MEASURES}
NO_RUN = "there is no run yet"


def compare(paper: Paper, evidence: Evidence | None) -> list[PaperRow]:
    """Return a row for each figure of the paper, in its order; without evidence none has a figure of a run."""
    return [_row(figure, *_here(paper, figure, evidence)) for figure in paper.figures]


def _here(paper: Paper, figure: Figure, evidence: Evidence | None) -> tuple[Measured | None, str | None]:
    """Return the run's figure, or the reason why there is none."""
    if evidence is None:
        return None, NO_RUN
    try:
        return _measure(paper, figure, evidence), None
    except Lacking as reason:
        return None, str(reason)


def _measure(paper: Paper, figure: Figure, evidence: Evidence) -> Measured:
    own = replace(evidence, targets=paper.targets)
    if figure.arm is None or figure.arm == evidence.arm:
        return _call(figure.here, replace(own, published_sae=paper.arms[figure.arm].sae) if figure.arm else own)
    if figure.also and figure.arm == CONTROL and evidence.arm == next(iter(paper.arms)):
        return _call(figure.also, own)
    if figure.here[0] == measures.not_computed.__name__:
        return _call(figure.here, own)
    arm = paper.arms[figure.arm]
    run = f"medsae run {paper.recipe} {arm.how}".strip()
    raise Lacking(f"it is of {arm.title}, another encoder than this run's: {run}")


def _call(call: Call, evidence: Evidence) -> Measured:
    name, *arguments = call
    return MEASURES[name](evidence, *arguments)


def _row(figure: Figure, found: Measured | None, lacking: str | None) -> PaperRow:
    return {
        "id": figure.id,
        "group": figure.group,
        "figure": figure.says,
        "arm": figure.arm,
        "published": figure.published,
        "published_n": figure.n,
        "source": figure.source,
        "definition": figure.definition,
        "here": found.value if found else None,
        "n": found.n if found else None,
        "of": found.of if found else "",
        "low": found.low if found else None,
        "high": found.high if found else None,
        "note": found.note if found else "",
        "not_computed": lacking,
        "comparable": figure.comparable if found else None,
        "differs": figure.differs,
    }
