"""How well a name predicts on which images a feature is active.

Legend: n images of one feature's sample, N images of a pool.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from medsae_ray.core.analysis.auroc import Auroc, auroc, wilson_interval
from medsae_ray.core.analysis.values import Floats

YES = 0.5
"""p(yes) from which an answer counts as yes."""
LOW_MASS = 0.5
"""P(yes) + P(no) below which the model wanted to say something else."""


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


class LabelScore(NamedTuple):
    """The dataset label whose annotation tells active images best from the others; None and NaN without one."""

    label: str | None
    auroc: float


def score(p_n: ArrayLike, y_n: ArrayLike, mass_n: ArrayLike | None = None) -> Score:
    """Score answers `p_n` (NaN = failed) against y = 1 (active) or 0.

    A failed answer ranks worse than any other: below 0 for a positive, above 1 for a negative. One image per patient
    makes DeLong's interval one by patient.
    """
    p_n, y_n = np.asarray(p_n, dtype=np.float64), np.asarray(y_n, dtype=np.float64)
    worst_n = np.where(np.isnan(p_n), np.where(y_n == 1, -1.0, 2.0), p_n)
    right_n = (worst_n >= YES) == (y_n == 1)
    low, high = wilson(int(right_n.sum()), len(right_n))
    return Score(
        int((y_n == 1).sum()),
        int((y_n == 0).sum()),
        int(np.isnan(p_n).sum()),
        0 if mass_n is None else int((np.asarray(mass_n, dtype=np.float64) < LOW_MASS).sum()),
        auroc(worst_n, y_n),
        (_mean(right_n[y_n == 1]) + _mean(right_n[y_n == 0])) / 2,
        _mean(right_n),
        low,
        high,
        rank_p(worst_n, y_n),
    )


def control(p_n: ArrayLike, y_n: ArrayLike) -> Score:
    """Score a control on the images that it has an answer for: a failure must not make it easier to beat."""
    p_n, y_n = np.asarray(p_n, dtype=np.float64), np.asarray(y_n, dtype=np.float64)
    answered = ~np.isnan(p_n)
    return score(p_n[answered], y_n[answered])


def rank_p(score_n: Floats, y_n: Floats) -> float:
    """One-sided p of AUROC > 0.5 under permutation: Mann & Whitney (1947), normal, with ties and continuity corrected.

    Without ties it is within 10 % of the exact p from 25 + 25 images on where that is at least 0.01, and above it
    beyond.
    """
    m, n = int((y_n == 1).sum()), int((y_n == 0).sum())
    if not m or not n:
        return np.nan
    total = m + n
    above = stats.rankdata(score_n)[y_n == 1].sum() - m * (m + 1) / 2
    ties = np.unique(score_n, return_counts=True)[1].astype(np.float64)
    variance = m * n / 12 * (total + 1 - (ties**3 - ties).sum() / (total * (total - 1)))
    return 1.0 if variance <= 0 else float(special.ndtr((m * n / 2 + 0.5 - above) / np.sqrt(variance)))


def wilson(successes: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Interval of a proportion (Wilson 1927); NaN for n = 0."""
    return wilson_interval(successes / n, n, float(special.ndtri(0.5 + level / 2))) if n else (np.nan, np.nan)


def ceiling(p_N: ArrayLike, truth_N: ArrayLike) -> Auroc:
    """AUROC of p(label) against the label itself: what the model can see at all. NaN truth = unknown, left out."""
    p_N, truth_N = np.asarray(p_N, dtype=np.float64), np.asarray(truth_N, dtype=np.float64)
    known = ~np.isnan(truth_N)
    return score(p_N[known], truth_N[known]).area


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
