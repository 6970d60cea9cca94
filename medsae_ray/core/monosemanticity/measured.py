"""The measures of every unit, and their means over all units and over the best, each beside what chance gives.

The more units there are, the better are the ten best of them, also by chance. So the null of a mean over the best is
the mean over the best of values without any relation, drawn anew each time: labels of other images, or for similarity
numbers with the exact mean and deviation of shuffled embeddings.

Legend: F units, L labels, S draws, K images of a unit, M means ("mean", "top_10", "top_50").
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.entropy import each_shuffle, label_entropy
from medsae_ray.core.analysis.findings import strongest
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts import monosemanticity
from medsae_ray.core.artifacts.columns import nan_to_null, nullable_column
from medsae_ray.core.artifacts.monosemanticity import MeanFigures, MeasureFigures, SpaceFigures
from medsae_ray.core.monosemanticity.chance import Judge
from medsae_ray.core.monosemanticity.strongest import Strongest
from medsae_ray.core.monosemanticity.sums import SpaceSums

BEST = (10, 50)
"""The numbers of best units over which SAIL takes means."""


class MeasuredSpace(NamedTuple):
    """One kind of unit."""

    table: pa.Table
    """The rows of `monosemanticity.rows`."""
    figures: SpaceFigures
    similarity_null: float
    """The mean cosine of all pairs of images."""


def means(value_F: Floats, lowest: bool = False) -> Floats:
    """Return the mean over units with a value, the ten best and the fifty best [M]; NaN if there are fewer."""
    known = np.sort(value_F[~np.isnan(value_F)])
    known = known if lowest else known[::-1]
    tops = [known[:n].mean() if len(known) >= n else np.nan for n in BEST]
    return np.array([known.mean() if len(known) else np.nan, *tops])


def measured_space(space: str, sums: SpaceSums, judge: Judge, coherence_null: float, names: list[str]) -> MeasuredSpace:
    """Measure one kind of unit from its merged sums."""
    heldout_FK, test_FK = (found.above_low().rows() for found in (sums.heldout, sums.test))
    found, m_F = judge.score(heldout_FK, coherence_null)
    r_FL = sums.discovery.pearson()
    best_F = strongest(np.abs(r_FL), axis=1, names=names)
    best_r_F = np.array([r_FL[f, b] if b >= 0 else np.nan for f, b in enumerate(best_F)])
    present_F = ~(best_r_F < 0)
    purity_F = judge.purity(test_FK, best_F, present_F)
    similar, h_F = sums.pairs.similarity(), _entropy(sums.one.pearson())
    exchanged_S = [(a, b) for a, b in zip(judge.exchanged(heldout_FK), judge.exchanged(test_FK), strict=True)]
    figures = SpaceFigures(
        score=_figures(m_F, [means(judge.score(a, coherence_null)[1]) for a, _ in exchanged_S]),
        similarity=_figures(similar.ms_F, _similar_by_chance(similar.ms_F, similar.null, similar.null_sd_F, judge)),
        purity=_figures(purity_F, [means(judge.purity(b, best_F, present_F)) for _, b in exchanged_S]),
        entropy=_figures(h_F, _entropy_draws(sums.null, r_FL.shape[1]), lowest=True),
    )
    measures = {
        "coherence": found.c_F,
        "specificity": found.s_F,
        "score": m_F,
        "similarity": similar.ms_F,
        "similarity_null_sd": similar.null_sd_F,
        "entropy": h_F,
        "purity": purity_F,
        "purity_null": judge.prevalence(best_F, present_F),
        "best_r": best_r_F,
    }
    missing_F = np.isnan(m_F + similar.ms_F + purity_F + h_F)
    columns = {
        "space": [space] * len(m_F),
        "feature": np.arange(len(m_F), dtype=np.int32),
        "images": (heldout_FK >= 0).sum(axis=1),
        "best_label": [names[b] if b >= 0 else None for b in best_F],
        "reason": [_reason(sums.heldout, f, heldout_FK, judge) if missing_F[f] else None for f in range(len(m_F))],
        **{name: nullable_column(value_F) for name, value_F in measures.items()},
    }
    declared = monosemanticity.rows()
    table = pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in declared], schema=declared)
    return MeasuredSpace(table, figures, similar.null)


def _reason(found: Strongest, unit: int, row_FK: np.ndarray, judge: Judge) -> str:
    """Say why some measure of a unit has no value."""
    if judge.labels < 2:
        return "one label" if judge.labels else "no labels"
    if found.high_F[unit] <= 0 and found.low_F[unit] >= 0:
        return "never active"
    if found.low_F[unit] == found.high_F[unit]:
        return "equal on all images"
    if (row_FK[unit] < 0).any():
        return f"active on fewer than {found.k} held-out patients"
    return "too few images for its test, or for its label"


def _entropy(r_FL: Floats) -> Floats:
    """Return the entropies of units; NaN with fewer than two labels that any unit correlates with."""
    few = (~np.isnan(r_FL)).any(axis=0).sum() < 2
    return np.full(len(r_FL), np.nan) if few else label_entropy(r_FL).h_F


def _entropy_draws(null: Comoments, labels: int) -> list[Floats]:
    if not labels:
        return []
    return [means(_entropy(one.pearson()), lowest=True) for one in each_shuffle(null, labels)]


def _similar_by_chance(ms_F: Floats, null: float, sd_F: Floats, judge: Judge) -> list[Floats]:
    """Return the means over units whose similarities are drawn from the normal distribution of shuffled embeddings."""
    sd_F = np.where(np.isnan(ms_F), np.nan, sd_F)
    rng = np.random.Generator(np.random.PCG64([judge.seed]))
    return [means(null + sd_F * rng.standard_normal(len(sd_F))) for _ in range(judge.draws)]


def _figures(value_F: Floats, draws_S: list[Floats], lowest: bool = False) -> MeasureFigures:
    draws_SM, found_M = np.array(draws_S).reshape(-1, 3), means(value_F, lowest)
    missing_M = np.isnan(found_M) | (np.isnan(draws_SM).any(axis=0) if len(draws_SM) else True)
    nothing_M = np.full(3, np.nan)
    null_M = np.where(missing_M, np.nan, draws_SM.mean(axis=0) if len(draws_SM) else nothing_M)
    sd_M = np.where(missing_M, np.nan, draws_SM.std(axis=0, ddof=1) if len(draws_SM) > 1 else nothing_M)
    units = int((~np.isnan(value_F)).sum())
    return MeasureFigures(units=units, found=_named(found_M), null=_named(null_M), null_sd=_named(sd_M))


def _named(mean_M: Floats) -> MeanFigures:
    mean, top_10, top_50 = (nan_to_null(float(value)) for value in mean_M)
    return MeanFigures(mean=mean, top_10=top_10, top_50=top_50)
