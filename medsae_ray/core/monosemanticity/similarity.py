"""The Monosemanticity Score of Pach et al.: how alike the images are that activate a unit, weighted by the activations.

Pach et al. 2025 (arXiv 2504.02821): MS_j = sum_{n<m} a_n a_m cos(e_n, e_m) / sum_{n<m} a_n a_m, with a the activations
of unit j, scaled to 0 for its smallest and 1 for its largest, and e embeddings of the images. Their code goes through
all pairs. With rows e of length 1, S = sum_n a_n e_n and A_p = sum_n a_n^p it is (|S|^2 - A_2) / (A_1^2 - A_2), whose
sums merge. They are kept relative to the smallest value so far, so that one pass over the images is enough.

Without any relation, when embeddings are shuffled over images, the expectation is the mean cosine of all pairs. The
variance under such shuffles is that of Mantel's test (1967, Cancer Research 27:209), also from sums.

Legend: N images, F units, D embedding dimension.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats, UnitValues, unit_values
from medsae_ray.errors import ArtifactError

LEAST = 1e-9
"""The least share of A_1^2 that pairs of images hold; below it one image is all, and rounding decides the rest."""
EQUAL = 1e-12
"""The range, as a share of the largest |value|, up to which a unit counts as equal on all images."""


class Similarity(NamedTuple):
    """The score of every unit, and its mean and standard deviation if embeddings are shuffled over images."""

    ms_F: Floats
    """NaN for a unit that is equal on all images, or above its smallest value on one only."""
    null: float
    """NaN for fewer than two images."""
    null_sd_F: Floats
    """NaN for fewer than four images."""


@dataclass(frozen=True)
class PairSums:
    """The sums behind the score, a commutative monoid with identity `zero`; merging is exact up to rounding."""

    n: int
    low_F: Floats
    high_F: Floats
    power_4F: Floats
    """The sums over images of (x - low)^p for p = 1 to 4."""
    s_FD: Floats
    """The sum over images of (x - low) e."""
    e_D: Floats
    """The sum of the unit embeddings."""
    gram_DD: Floats

    @classmethod
    def zero(cls, units: int, dims: int) -> Self:
        """Return the sums over no images."""
        ends = np.full(units, np.inf), np.full(units, -np.inf)
        return cls(0, *ends, np.zeros((4, units)), np.zeros((units, dims)), np.zeros(dims), np.zeros((dims, dims)))

    @classmethod
    def of(cls, x_NF: UnitValues, e_ND: np.ndarray) -> Self:
        """Compute the sums of some images from unit values and raw embeddings.

        An image whose embedding is not finite, or of length 0, has no direction and is left out. Raises ArtifactError
        if a unit value is not finite or there is not one embedding per image.
        """
        x_NF, e_ND = unit_values(x_NF), np.asarray(e_ND, dtype=np.float64)
        if e_ND.ndim != 2 or len(e_ND) != x_NF.shape[0]:
            raise ArtifactError(f"embeddings of shape {e_ND.shape} do not match {x_NF.shape[0]} rows of unit values")
        length_N = np.linalg.norm(e_ND, axis=1)
        usable_N = np.isfinite(length_N) & (length_N > 0)
        if not usable_N.all():
            x_NF, e_ND, length_N = x_NF[usable_N], e_ND[usable_N], length_N[usable_N]
        if not len(e_ND):
            return cls.zero(x_NF.shape[1], e_ND.shape[1])
        e_ND = e_ND / length_N[:, None]
        low_F, high_F, a_NF = _from_low(x_NF)
        power_4F = np.stack([np.asarray((a_NF**p).sum(axis=0)).ravel() for p in (1, 2, 3, 4)])
        return cls(len(e_ND), low_F, high_F, power_4F, a_NF.T @ e_ND, e_ND.sum(axis=0), e_ND.T @ e_ND)

    def merge(self, other: Self) -> Self:
        """Add the sums of other images. Raises ArtifactError for other numbers of units or dimensions."""
        if self.s_FD.shape != other.s_FD.shape:
            raise ArtifactError(f"sums of shape {self.s_FD.shape} and {other.s_FD.shape} cannot be merged")
        if not (self.n and other.n):
            return self if self.n else other
        low_F = np.minimum(self.low_F, other.low_F)
        one, two = self._relative_to(low_F), other._relative_to(low_F)
        return type(self)(
            n=self.n + other.n,
            low_F=low_F,
            high_F=np.maximum(self.high_F, other.high_F),
            power_4F=one.power_4F + two.power_4F,
            s_FD=one.s_FD + two.s_FD,
            e_D=self.e_D + other.e_D,
            gram_DD=self.gram_DD + other.gram_DD,
        )

    def _relative_to(self, low_F: Floats) -> "_Moved":
        """Return the sums of x - low for a lower low: what is added is never negative."""
        d_F, (p1, p2, p3, p4), n = self.low_F - low_F, self.power_4F, self.n
        power_4F = np.stack(
            [
                p1 + n * d_F,
                p2 + 2 * d_F * p1 + n * d_F**2,
                p3 + 3 * d_F * p2 + 3 * d_F**2 * p1 + n * d_F**3,
                p4 + 4 * d_F * p3 + 6 * d_F**2 * p2 + 4 * d_F**3 * p1 + n * d_F**4,
            ]
        )
        moves = np.flatnonzero(d_F)
        s_FD = self.s_FD
        if moves.size:
            s_FD = s_FD.copy()
            s_FD[moves] += d_F[moves, None] * self.e_D
        return _Moved(power_4F, s_FD)

    def similarity(self) -> Similarity:
        """Return scores and their null."""
        range_F = self.high_F - self.low_F
        size_F = np.maximum(np.abs(self.high_F), np.abs(self.low_F))
        varies_F = np.isfinite(range_F) & (range_F > EQUAL * size_F)
        range_F = np.where(varies_F, range_F, np.nan)
        a1, a2, a3, a4 = self.power_4F / range_F ** np.arange(1, 5)[:, None]
        pairs_F = a1**2 - a2
        pairs_F = np.where(pairs_F > LEAST * a1**2, pairs_F, np.nan)
        ms_F = (np.einsum("fd,fd->f", self.s_FD, self.s_FD) / range_F**2 - a2) / pairs_F
        squares_F, rows_F = a2**2 - a4, a1**2 * a2 - 2 * a1 * a3 + a4
        variance_F = self._variance(pairs_F, squares_F, rows_F)
        return Similarity(ms_F, self.null(), np.sqrt(np.maximum(variance_F, 0)) / pairs_F)

    def null(self) -> float:
        """Return the mean cosine over all pairs of images."""
        n = self.n
        return float((self.e_D @ self.e_D - n) / (n * (n - 1))) if n > 1 else float("nan")

    def _variance(self, w1: Floats, w2: Floats, w3: Floats) -> Floats:
        """Return the variance of sum_{n != m} w_nm c_nm over permutations of c (Mantel 1967), from three sums of each
        matrix without its diagonal: of all entries, of their squares, of the squared sums of rows."""
        n, e_D = self.n, self.e_D
        if n < 4:
            return np.full(len(w1), np.nan)
        square = float(e_D @ e_D)
        c1, c2 = square - n, float((self.gram_DD**2).sum()) - n
        c3 = float(e_D @ self.gram_DD @ e_D) - 2 * square + n
        two, three = n * (n - 1), n * (n - 1) * (n - 2)
        mean = w1 * c1 / two
        second = 2 * w2 * c2 / two + 4 * (w3 - w2) * (c3 - c2) / three
        second = second + (w1**2 + 2 * w2 - 4 * w3) * (c1**2 + 2 * c2 - 4 * c3) / (three * (n - 3))
        variance: Floats = second - mean**2
        return variance


class _Moved(NamedTuple):
    power_4F: Floats
    s_FD: Floats


def _from_low(x_NF: UnitValues) -> tuple[Floats, Floats, UnitValues]:
    """Return each unit's smallest and largest value, and the values less the smallest."""
    if not isinstance(x_NF, sparse.sparray):
        low_F = x_NF.min(axis=0)
        return low_F, x_NF.max(axis=0), x_NF - low_F
    low_F, high_F = (found.toarray().ravel() for found in (x_NF.min(axis=0), x_NF.max(axis=0)))
    if (low_F < 0).any():
        return _from_low(x_NF.toarray())
    # Above 0 a smallest value means that the unit is active on all images, so none of its zeros is implicit.
    data = x_NF.data - low_F[x_NF.indices]
    return low_F, high_F, sparse.csr_array((data, x_NF.indices, x_NF.indptr), shape=x_NF.shape)
