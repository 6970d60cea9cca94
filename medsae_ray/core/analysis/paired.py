"""A paired test that one score separates positives from negatives better than another, on the same rows.

DeLong, DeLong & Clarke-Pearson (1988): the two areas are means over the same rows, so their difference has the variance
of the rows' differences, and a row that is hard for both scores cancels.

Legend: m positives, n negatives, N rows.
"""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from medsae_ray.core.analysis.values import Floats


def paired_p(score_N: ArrayLike, other_N: ArrayLike, y_N: ArrayLike) -> float:
    """Return the one-sided p of AUROC(`score_N`) > max(AUROC, 1 - AUROC) of `other_N`; NaN if a class is empty.

    A score that points the wrong way counts as its opposite, which separates the classes as well. The choice of its
    direction on the same rows makes it harder to beat, never easier. Equal differences have no variance: p is then 0 if
    they are above 0, else 1.
    """
    y_N = np.asarray(y_N, dtype=np.float64)
    if not (y_N == 1).any() or not (y_N == 0).any():
        return float("nan")
    a_m, a_n = components(score_N, y_N)
    b_m, b_n = components(other_N, y_N)
    if b_m.mean() < 0.5:
        b_m, b_n = 1 - b_m, 1 - b_n
    difference = float(a_m.mean() - b_m.mean())
    variance = _variance_of_mean(a_m - b_m) + _variance_of_mean(a_n - b_n)
    if variance < 1e-12:
        return 0.0 if difference > 1e-9 else 1.0
    return float(special.ndtr(-difference / np.sqrt(variance)))


def components(score_N: ArrayLike, y_N: Floats) -> tuple[Floats, Floats]:
    """Return shares: of negatives below each positive [m], and of positives above each negative [n] (DeLong).

    Ties count one half. The mean of either is the AUROC. All pairs are compared, as a sample has some dozen of each.
    """
    score_N = np.asarray(score_N, dtype=np.float64)
    positive_m1, negative_n = score_N[y_N == 1][:, None], score_N[y_N == 0]
    above_mn = (positive_m1 > negative_n) + 0.5 * (positive_m1 == negative_n)
    return above_mn.mean(axis=1), above_mn.mean(axis=0)


def _variance_of_mean(difference: Floats) -> float:
    return float(difference.var(ddof=1) / len(difference)) if len(difference) > 1 else 0.0
