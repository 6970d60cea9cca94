"""How well a name predicts on which images a feature is active.

Legend: n images of one feature's sample, N images of a pool.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from medsae_ray.core.analysis.auroc import Auroc, auroc, wilson_interval
from medsae_ray.core.analysis.paired import paired_p
from medsae_ray.core.analysis.values import Floats

YES = 0.5
"""p(yes) from which an answer counts as yes."""
LOW_MASS = 0.5
"""P(yes) + P(no) below which the model wanted to say something else; such answers are counted."""
LEAST_MASS = 0.1
"""P(yes) + P(no) below which there is no answer, whatever the ratio of the two."""
CHANCE = 0.05
"""Of any label being taken for seen, though the model sees none."""


class Score(NamedTuple):
    """A name on one sample. What is not defined, for want of a class, is NaN."""

    n_pos: int
    n_neg: int
    failed: int
    """Questions without an answer; they count as wrong."""
    low_mass: int
    area: Auroc
    balanced_accuracy: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float
    p: float
    """One-sided: the chance of such an AUROC if p(yes) has nothing to do with the feature."""
    answer_n: Floats
    """What was ranked; NaN where a control has no answer."""
    y_n: Floats
    no_mass: int
    """Answers that are none: a model that hardly thinks of yes and no still ranks images by their ratio."""


class LabelScore(NamedTuple):
    """The dataset label whose annotation tells active images best from the others; None and NaN without one."""

    label: str | None
    auroc: float


def score(p_n: ArrayLike, y_n: ArrayLike, mass_n: ArrayLike | None = None) -> Score:
    """Score answers `p_n` (NaN = failed) against y = 1 (active) or 0.

    A failed answer ranks worse than any other: below 0 for a positive, above 1 for a negative. One image per patient
    makes DeLong's interval one by patient. Answers without mass are counted here; `answered` takes them out.
    """
    y_n = np.asarray(y_n, dtype=np.float64)
    p_n = np.asarray(p_n, dtype=np.float64)
    worst_n = np.where(np.isnan(p_n), np.where(y_n == 1, -1.0, 2.0), p_n)
    right_n = (worst_n >= YES) == (y_n == 1)
    low, high = wilson(int(right_n.sum()), len(right_n))
    return Score(
        n_pos=int((y_n == 1).sum()),
        n_neg=int((y_n == 0).sum()),
        failed=int(np.isnan(p_n).sum()),
        low_mass=_below(mass_n, LOW_MASS),
        area=auroc(worst_n, y_n),
        balanced_accuracy=(_mean(right_n[y_n == 1]) + _mean(right_n[y_n == 0])) / 2,
        accuracy=_mean(right_n),
        accuracy_low=low,
        accuracy_high=high,
        p=rank_p(worst_n, y_n),
        answer_n=worst_n,
        y_n=y_n,
        no_mass=_below(mass_n, LEAST_MASS),
    )


def _below(mass_n: ArrayLike | None, least: float) -> int:
    return 0 if mass_n is None else int((np.asarray(mass_n, dtype=np.float64) < least).sum())


def answered(p_n: ArrayLike, mass_n: ArrayLike | None = None) -> Floats:
    """`p_n` with NaN where the mass is below `LEAST_MASS`."""
    p_n = np.asarray(p_n, dtype=np.float64)
    return p_n if mass_n is None else np.where(np.asarray(mass_n, dtype=np.float64) < LEAST_MASS, np.nan, p_n)


def control(p_n: ArrayLike, y_n: ArrayLike, mass_n: ArrayLike | None = None) -> Score:
    """Score a control on the images that it has an answer for: a failure must not make it easier to beat."""
    p_n, y_n = answered(p_n, mass_n), np.asarray(y_n, dtype=np.float64)
    known_n = ~np.isnan(p_n)
    return score(p_n[known_n], y_n[known_n])._replace(answer_n=p_n, y_n=y_n)


def folded(area: float) -> float:
    """The AUROC of a control that may point either way."""
    return max(area, 1 - area)


def beats(name: Score, other: Score) -> float:
    """One-sided p that a name is no better than a control that may point either way, on the same images; NaN where the
    control has too few answers, or was asked about others. Images without an answer of the control are left out."""
    known_n = ~np.isnan(other.answer_n)
    if len(known_n) != len(name.answer_n) or not known_n.any() or known_n.mean() < 0.5:
        return np.nan
    return paired_p(name.answer_n[known_n], other.answer_n[known_n], name.y_n[known_n])


def rank_p(score_n: Floats, y_n: Floats) -> float:
    """One-sided p of AUROC > 0.5 under permutation: Mann & Whitney (1947), normal, with ties and continuity corrected.

    NaN without one of the classes, 1 where all scores are equal. Without ties it is within 10 % of the exact p from
    25 + 25 images on where that is at least 0.01, and above it beyond.
    """
    active_m, other_m = score_n[y_n == 1], score_n[y_n == 0]
    if not len(active_m) or not len(other_m):
        return np.nan
    return float(stats.mannwhitneyu(active_m, other_m, alternative="greater", method="asymptotic").pvalue)


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927); NaN for n = 0."""
    return wilson_interval(successes / n, n, float(special.ndtri(0.5 + level / 2))) if n else (np.nan, np.nan)


class Ceiling(NamedTuple):
    """What the model can see of a label."""

    area: Auroc
    """AUROC of p(label) against the label itself, with its 95 % interval."""
    seen: bool | None
    """Whether the interval at a level corrected for the number of labels lies above 0.5; None if nothing is known."""


def ceilings(p_of: Mapping[str, ArrayLike], truth_of: Mapping[str, ArrayLike]) -> dict[str, Ceiling]:
    """Label -> answers [N] and truth [N] (NaN = unknown, left out) -> ceiling. `p_of` is NaN where an answer failed."""
    areas = {label: ceiling(p_N, truth_of[label]) for label, p_N in p_of.items()}
    asked = sum(not np.isnan(area.auc) for area in areas.values())
    level = 1 - CHANCE / max(asked, 1)

    def seen(label: str, area: Auroc) -> bool | None:
        return None if np.isnan(area.auc) else ceiling(p_of[label], truth_of[label], level).low > 0.5

    return {label: Ceiling(area, seen(label, area)) for label, area in areas.items()}


def ceiling(p_N: ArrayLike, truth_N: ArrayLike, level: float = 0.95) -> Auroc:
    """AUROC of p(label) against the label itself: what the model can see at all. NaN truth = unknown, left out."""
    p_N, truth_N = np.asarray(p_N, dtype=np.float64), np.asarray(truth_N, dtype=np.float64)
    known = ~np.isnan(truth_N)
    ranked = score(p_N[known], truth_N[known])
    return auroc(ranked.answer_n, ranked.y_n, level)


def best_label(labels: Mapping[str, Sequence[float] | np.ndarray], y_n: ArrayLike) -> LabelScore:
    """The label (1, 0, NaN = unknown, left out) that predicts "active" best; presence must speak for activity."""
    y_n = np.asarray(y_n, dtype=np.float64)
    areas = {name: _known_area(np.asarray(values, dtype=np.float64), y_n) for name, values in labels.items()}
    areas = {name: area for name, area in areas.items() if not np.isnan(area)}
    if not areas:
        return LabelScore(None, np.nan)
    best = max(areas, key=lambda name: areas[name])
    return LabelScore(best, areas[best])


def _known_area(label_n: Floats, y_n: Floats) -> float:
    known = ~np.isnan(label_n)
    return auroc(label_n[known], y_n[known]).auc


def _mean(right: np.ndarray) -> float:
    return float(right.mean()) if len(right) else np.nan
