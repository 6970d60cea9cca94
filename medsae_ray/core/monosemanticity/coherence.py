"""Coherence and specificity of a unit's strongest images by their labels: the score of SAIL.

SAIL (github.com/pwesp/sail, src/monosemanticity.py): of the K images that activate a unit most, one of each patient,
coherence C is the mean Jaccard index of their labels over all pairs, specificity S = 1 - H(p) / ln L with p_l the share
of label l among all labels of these images, and the score is M = max(0, C - null) S. Two images without any label count
as equal, and K images without any label have S = 0.

What is not known (NaN) is left out: a pair is compared by the labels that are known of both, and a pair without such a
label does not count.

Legend: N images, F units, K images of a unit, L labels, U distinct rows of labels, B, b units or rows of a block.
"""

from typing import NamedTuple

import numpy as np

from medsae_ray.core.analysis.values import Bools, Floats, Ints, label_values
from medsae_ray.errors import ArtifactError

BLOCK = 1 << 22
"""The most pairs of images that are compared at once."""


class CoherenceSpecificity(NamedTuple):
    """C and S of every unit; NaN for fewer than K images, or fewer than two labels."""

    c_F: Floats
    s_F: Floats


def checked_labels(y_NL: np.ndarray, n_images: int) -> Floats:
    """Return labels in float64. Raises ArtifactError if they are not 1, 0 or NaN (unknown), one row per image."""
    y_NL = label_values(y_NL, n_images)
    if not ((y_NL == 0) | (y_NL == 1) | np.isnan(y_NL)).all():
        raise ArtifactError("a label is neither 0, 1 nor NaN; settle uncertain labels first")
    return y_NL


def judged(y_NL: Floats) -> Bools:
    """Return [N], True for images of which some label is known: others cannot be judged."""
    return np.asarray((~np.isnan(y_NL)).any(axis=1))


def label_count(y_NL: Floats) -> int:
    """Count the labels that are known of any image: the L in S."""
    return int((~np.isnan(y_NL)).any(axis=0).sum())


def coherence_specificity(y_NL: Floats, row_FK: Ints, labels: int) -> CoherenceSpecificity:
    """Return C and S of units whose strongest images are rows of `y_NL`, -1 for none; of L labels if some are never
    known."""
    units, k = row_FK.shape
    c_F, s_F = np.full(units, np.nan), np.full(units, np.nan)
    full = np.flatnonzero((row_FK >= 0).all(axis=1)) if labels > 1 and k > 1 else np.zeros(0, np.int64)
    for part in np.array_split(full, -(-len(full) * k * max(k, y_NL.shape[1]) // BLOCK)) if len(full) else []:
        y_BKL = y_NL[row_FK[part]]
        c_F[part], s_F[part] = _coherence(y_BKL), _specificity(y_BKL, labels)
    return CoherenceSpecificity(c_F, s_F)


def score(found: CoherenceSpecificity, null: float) -> Floats:
    """Return M = max(0, C - null) S."""
    m_F: Floats = np.maximum(found.c_F - null, 0) * found.s_F
    return m_F


def _coherence(y_BKL: Floats) -> Floats:
    """Return the mean Jaccard index over pairs [B].

    The index of a pair is rounded to float32, as SAIL does: so the two agree to the last bits, and not to 1e-8.
    """
    i, j = np.triu_indices(y_BKL.shape[1], 1)
    index_BKK, compared_BKK = jaccard(y_BKL, y_BKL, np.float32)
    index_BP, compared_BP = index_BKK[:, i, j].astype(np.float64), compared_BKK[:, i, j]
    pairs_B = compared_BP.sum(axis=1)
    c_B: Floats = (index_BP * compared_BP).sum(axis=1) / np.where(pairs_B > 0, pairs_B, np.nan)
    return c_B


def _specificity(y_BKL: Floats, labels: int) -> Floats:
    count_BL = np.nansum(y_BKL, axis=1)
    total_B = count_BL.sum(axis=1)
    p_BL = count_BL / np.where(total_B > 0, total_B, 1)[:, None]
    entropy_B = -(p_BL * np.log(np.where(p_BL > 0, p_BL, 1))).sum(axis=1)
    s_B: Floats = np.where(total_B > 0, 1 - entropy_B / np.log(labels), 0.0)
    return s_B


def jaccard(one: Floats, other: Floats, dtype: type[np.floating] = np.float64) -> tuple[np.ndarray, np.ndarray]:
    """Return the Jaccard index of each row of `one` [..., b, L] with each of `other` [..., B, L], and whether the pair
    has a label that is known of both."""
    has_1, has_2 = np.nan_to_num(one).astype(dtype), np.nan_to_num(other).astype(dtype).swapaxes(-1, -2)
    shared = has_1 @ has_2
    if np.isnan(one).any() or np.isnan(other).any():
        known_1, known_2 = (~np.isnan(one)).astype(dtype), (~np.isnan(other)).astype(dtype).swapaxes(-1, -2)
        either, compared = has_1 @ known_2 + known_1 @ has_2, known_1 @ known_2 > 0
    else:
        either, compared = has_1.sum(-1)[..., :, None] + has_2.sum(-2)[..., None, :], np.ones(shared.shape, dtype=bool)
    union = either - shared
    return np.divide(shared, union, out=np.ones_like(shared), where=union > 0), compared


def mean_of_all_pairs(y_NL: Floats) -> float:
    """Return the mean Jaccard index over all pairs of images: the expectation of C of images drawn at random.

    SAIL estimates it by 100 random subsets. Equal rows are counted, so the time goes by the square of the number of
    distinct rows. NaN with fewer than two labels, or without a pair that can be compared.
    """
    y_NL = y_NL[judged(y_NL)]
    if label_count(y_NL) < 2 or len(y_NL) < 2:
        return float("nan")
    coded_NL = np.ascontiguousarray(np.where(np.isnan(y_NL), 2, y_NL).astype(np.int8))
    _, first_U, count_U = np.unique(coded_NL, axis=0, return_index=True, return_counts=True)
    y_UL, total, pairs = y_NL[first_U], 0.0, 0.0
    for rows in np.array_split(np.arange(len(y_UL)), -(-(len(y_UL) ** 2) // BLOCK)):
        index_bU, compared_bU = jaccard(y_UL[rows], y_UL)
        weight_bU = compared_bU * count_U[rows, None] * count_U.astype(np.float64)
        weight_bU[np.arange(len(rows)), rows] -= count_U[rows]
        total += float((weight_bU * index_bU).sum())
        pairs += float(weight_bU.sum())
    return total / pairs if pairs else float("nan")
