"""The spread of embeddings around their mean, or the means of several groups: partial sums that merge in any order.

Legend: N images, K groups (datasets), D embedding dimension.

Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
Chen, Wiesel, Eldar & Hero (2010), "Shrinkage algorithms for MMSE covariance estimation".
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from medsae_ray.core.analysis.values import Floats, Ints
from medsae_ray.errors import ArtifactError


class Covariance(NamedTuple):
    """A covariance within groups, shrunk towards a multiple of the identity."""

    matrix_DD: Floats
    shrinkage: float
    """The weight of the identity, from 0 to 1."""


@dataclass(frozen=True)
class Scatter:
    """A commutative monoid with identity `zero`; merging is exact up to float64 rounding."""

    count_K: Ints
    mean_KD: Floats
    """The mean of each group; 0 for one without rows."""
    within_DD: Floats
    """The sum over all rows of (x - m)(x - m)^T, with m the mean of the row's group."""

    @classmethod
    def zero(cls, groups: int, dim: int) -> Self:
        """Return the sums of no rows."""
        return cls(np.zeros(groups, np.int64), np.zeros((groups, dim)), np.zeros((dim, dim)))

    @classmethod
    def of(cls, x_ND: np.ndarray, group_N: np.ndarray, groups: int) -> Self:
        """Sum the embeddings of some images; `group_N` are their groups, from 0. ArtifactError if one is not finite."""
        if not np.isfinite(x_ND).all():
            raise ArtifactError("an embedding is NaN or infinite; rows that are not ok have to be left out")
        total = cls.zero(groups, x_ND.shape[1])
        for group in np.unique(group_N):
            x_nD = x_ND[group_N == group].astype(np.float64)
            mean_D = x_nD.mean(axis=0)
            total.count_K[group], total.mean_KD[group] = len(x_nD), mean_D
            total.within_DD[:] += (x_nD - mean_D).T @ (x_nD - mean_D)
        return total

    def merge(self, other: Self) -> Self:
        """Return the sums of both sets of rows, which must not overlap."""
        if self.mean_KD.shape != other.mean_KD.shape:
            raise ArtifactError(f"scatters of shape {self.mean_KD.shape} and {other.mean_KD.shape} cannot be merged")
        count_K = self.count_K + other.count_K
        total_K = np.maximum(count_K, 1)
        apart_KD = other.mean_KD - self.mean_KD
        weight_K = self.count_K * other.count_K / total_K
        a_K1, b_K1 = ((of.count_K / total_K)[:, None] for of in (self, other))
        return type(self)(
            count_K,
            a_K1 * self.mean_KD + b_K1 * other.mean_KD,
            self.within_DD + other.within_DD + (weight_K[:, None] * apart_KD).T @ apart_KD,
        )

    def covariance(self) -> Covariance:
        """Return the covariance within groups by oracle approximating shrinkage (Chen et al. 2010, equation 23, as in
        scikit-learn's OAS). With one row, or equal ones, it is zero."""
        n, dim = int(self.count_K.sum()), len(self.within_DD)
        matrix_DD = self.within_DD / max(n, 1)
        mean_square, scale = float(np.square(matrix_DD).mean()), float(np.trace(matrix_DD)) / dim
        lower = (n + 1) * (mean_square - scale**2 / dim)
        shrinkage = min((mean_square + scale**2) / lower, 1.0) if lower > 0 else 1.0
        return Covariance((1 - shrinkage) * matrix_DD + shrinkage * scale * np.eye(dim), shrinkage)
