"""Area under the ROC curve with DeLong's interval.

Everything is computed from tie blocks (distinct score, positives there, negatives there), which are counts: the
result is the same bit for bit for any order of rows, any sharding, and for dense and sparse input.

Legend: N images, F units, L labels, U distinct scores ascending.

DeLong, DeLong & Clarke-Pearson (1988), "Comparing the areas under two or more correlated ROC curves"; computed from
midranks as in Sun & Xu (2014), "Fast implementation of DeLong's algorithm".
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse, special

from medsae_ray.core.analysis.values import Bools, Floats, Ints, label_values
from medsae_ray.errors import ArtifactError


class Auroc(NamedTuple):
    """The area `auc` with its interval [low, high]; all three NaN if a class is empty."""

    auc: float
    low: float
    high: float
    positives: int
    negatives: int


class DeLong(NamedTuple):
    """The area, DeLong's estimate of its variance (NaN if a class has under 2 rows), and this estimate's validity."""

    auc: float
    variance: float
    both_vary: bool
    """False if all rows of a class have the same structural component: a variance estimated from one class only.
    Typical of a sparse unit that is inactive on all of a few positives; the interval would be far too narrow."""


def auroc(scores_N: ArrayLike, y_N: ArrayLike, level: float = 0.95) -> Auroc:
    """Return the area under the ROC curve of `scores_N` for labels 1 against 0; rows with a NaN label are left out.

    The interval is DeLong's on the logit scale, logit(auc) -+ z se / (auc (1 - auc)), so it stays within [0, 1].
    Where a class shows no variance (auc 0 or 1, a class of one row, or all of it tied) it is Wilson's with
    min(positives, negatives) trials: the variance of the area is at most auc (1 - auc) / min(positives, negatives)
    (Van Dantzig 1951; Birnbaum & Klose 1957), so that interval errs on the wide side.
    Raises ArtifactError if a score is NaN or a label is not 0, 1 or NaN.
    """
    scores_N, y_N = np.asarray(scores_N, dtype=np.float64), np.asarray(y_N, dtype=np.float64)
    if scores_N.shape != y_N.shape or scores_N.ndim != 1:
        raise ArtifactError(f"scores of shape {scores_N.shape} and labels of shape {y_N.shape} do not match")
    positive_N, negative_N = _classes(y_N)
    known_N = positive_N | negative_N
    return _auroc(scores_N[known_N], positive_N[known_N], negative_N[known_N], level)


def auroc_columns(
    x_NF: np.ndarray | sparse.sparray, y_NL: np.ndarray, label_F: ArrayLike, level: float = 0.95
) -> list[Auroc]:
    """Return the `auroc` of every unit j for its label `label_F[j]`; all NaN and no rows where that is -1.

    Sparse columns are never densified: their zeros are one tie block with the remaining counts.
    """
    label_F, n_labels = np.asarray(label_F, dtype=np.int64), np.shape(y_NL)[1]
    if label_F.shape != (x_NF.shape[1],) or ((label_F < -1) | (label_F >= n_labels)).any():
        raise ArtifactError(f"the units' labels {label_F.shape} must be one per unit, from -1 to {n_labels - 1}")
    y_NL = label_values(y_NL, x_NF.shape[0])
    positive_NL, negative_NL = _classes(y_NL)
    positives_L, negatives_L = positive_NL.sum(axis=0), negative_NL.sum(axis=0)
    columns = sparse.csc_array(x_NF) if sparse.issparse(x_NF) else None

    def column(j: int, label: int) -> Auroc:
        if label < 0:
            return Auroc(np.nan, np.nan, np.nan, 0, 0)
        if columns is None:
            return auroc(x_NF[:, j], y_NL[:, label], level)
        active = slice(columns.indptr[j], columns.indptr[j + 1])
        rows = columns.indices[active]
        positive, negative = positive_NL[rows, label], negative_NL[rows, label]
        zeros = positives_L[label] - positive.sum(), negatives_L[label] - negative.sum()
        scores = np.append(columns.data[active].astype(np.float64), 0.0)
        return _auroc(scores, np.append(positive, zeros[0]), np.append(negative, zeros[1]), level)

    return [column(j, int(label)) for j, label in enumerate(label_F)]


def delong(positives_U: Ints, negatives_U: Ints) -> DeLong:
    """Return area and variance from the counts at each distinct score, ascending; no class may be empty.

    The structural components of DeLong (1988) are the same for all rows of a tie block: V10 of a positive is the
    share of negatives below it, V01 of a negative the share of positives above it, ties counting one half.
    """
    m, n = int(positives_U.sum()), int(negatives_U.sum())
    v10_U = (np.cumsum(negatives_U) - negatives_U / 2) / n
    v01_U = (m - np.cumsum(positives_U) + positives_U / 2) / m
    auc = float(positives_U @ (2 * np.cumsum(negatives_U) - negatives_U)) / (2 * m * n)
    if m < 2 or n < 2:
        return DeLong(auc, np.nan, False)
    s10 = float(positives_U @ (v10_U - auc) ** 2) / (m - 1)
    s01 = float(negatives_U @ (v01_U - auc) ** 2) / (n - 1)
    return DeLong(auc, s10 / m + s01 / n, s10 > 0 and s01 > 0)


def _classes(y: Floats) -> tuple[Bools, Bools]:
    positive, negative = y == 1.0, y == 0.0
    if not (positive | negative | np.isnan(y)).all():
        raise ArtifactError("a label is neither 0, 1 nor NaN; settle uncertain labels before taking an AUROC")
    return positive, negative


def _auroc(scores: Floats, positive: np.ndarray, negative: np.ndarray, level: float) -> Auroc:
    """Return the `auroc` of rows, or blocks of rows with one score, from their numbers of positives and negatives."""
    if np.isnan(scores).any():
        raise ArtifactError(f"{np.isnan(scores).sum()} scores are NaN; leave out rows without a score")
    blocks, block = np.unique(scores, return_inverse=True)
    positives_U, negatives_U = (np.bincount(block, c, len(blocks)).astype(np.int64) for c in (positive, negative))
    m, n = int(positives_U.sum()), int(negatives_U.sum())
    if m == 0 or n == 0:
        return Auroc(np.nan, np.nan, np.nan, m, n)
    area, z = delong(positives_U, negatives_U), float(special.ndtri(0.5 + level / 2))
    if not area.both_vary:
        return Auroc(area.auc, *wilson_interval(area.auc, min(m, n), z), m, n)
    centre, half = special.logit(area.auc), z * np.sqrt(area.variance) / (area.auc * (1 - area.auc))
    return Auroc(area.auc, float(special.expit(centre - half)), float(special.expit(centre + half)), m, n)


def wilson_interval(p: float, n: int, z: float) -> tuple[float, float]:
    """Return Wilson's interval (1927); at p = 0 and 1 the bound is p itself, which rounding would miss."""
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (0.0 if p == 0.0 else float(centre - half)), (1.0 if p == 1.0 else float(centre + half))
