"""Co-moments of every unit with every label: partial sums of Pearson's r that merge in any order.

A label that is not known (NaN) leaves its row out for that label only (pairwise deletion), so each unit has one mean
and one variance per label.

Legend: N images, F units, L labels, G distinct patterns of known rows (labels known on the same rows share one).

Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
Pébay (2008), "Formulas for robust, one-pass parallel computation of covariances", SAND2008-6212.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Bools, Floats, Ints, UnitValues, label_values, unit_values
from medsae_ray.errors import ArtifactError

CONSTANT = 1e-12
"""A standard deviation up to this fraction of |mean| counts as 0. Rounding leaves about 1e-15 on a constant column
whatever the sharding; float32 data that really vary have 1e-9 or more."""

ILL_CONDITIONED = 100.0
"""Above this ratio of mean^2 to variance, sum(x^2) - n mean^2 loses digits and the pair is computed in two passes."""


@dataclass(frozen=True)
class Comoments:
    """A commutative monoid with identity `zero`; merging is exact up to float64 rounding."""

    count_L: Ints
    """Rows where the label is known."""
    mean_x_FL: Floats
    """Mean of the unit over these rows; 0 where there are none."""
    m2_x_FL: Floats
    """Sum of squared deviations of the unit."""
    mean_y_L: Floats
    m2_y_L: Floats
    c_FL: Floats
    """Sum of products of deviations of unit and label."""

    @classmethod
    def zero(cls, units: int, labels: int) -> Self:
        """The co-moments of no rows."""
        fl, one = (units, labels), (labels,)
        return cls(np.zeros(one, np.int64), np.zeros(fl), np.zeros(fl), np.zeros(one), np.zeros(one), np.zeros(fl))

    @classmethod
    def of(cls, x_NF: UnitValues, y_NL: np.ndarray) -> Self:
        """The co-moments of one shard. ArtifactError if shapes disagree or a unit value is not finite."""
        x_NF = unit_values(x_NF)
        y_NL = label_values(y_NL, x_NF.shape[0])
        if 0 in x_NF.shape or 0 in y_NL.shape:
            return cls.zero(x_NF.shape[1], y_NL.shape[1])
        known_NL = ~np.isnan(y_NL)
        mean_y_L, y_NL = _centred(y_NL, known_NL)
        x = _unit_moments(x_NF, y_NL, *_patterns(known_NL))
        return cls(known_NL.sum(axis=0), x.mean_FL, x.m2_FL, mean_y_L, (y_NL**2).sum(axis=0), x.c_FL)

    def merge(self, other: Self) -> Self:
        """The co-moments of both sets of rows (Pébay 2008). The sets must not overlap."""
        if self.c_FL.shape != other.c_FL.shape:
            raise ArtifactError(f"co-moments of shape {self.c_FL.shape} and {other.c_FL.shape} cannot be merged")
        n_L = self.count_L + other.count_L
        total_L = np.maximum(n_L, 1)
        a_L, b_L = self.count_L / total_L, other.count_L / total_L
        weight_L = self.count_L * other.count_L / total_L
        dx_FL, dy_L = other.mean_x_FL - self.mean_x_FL, other.mean_y_L - self.mean_y_L
        return type(self)(
            count_L=n_L,
            mean_x_FL=a_L * self.mean_x_FL + b_L * other.mean_x_FL,
            m2_x_FL=self.m2_x_FL + other.m2_x_FL + weight_L * dx_FL**2,
            mean_y_L=a_L * self.mean_y_L + b_L * other.mean_y_L,
            m2_y_L=self.m2_y_L + other.m2_y_L + weight_L * dy_L**2,
            c_FL=self.c_FL + other.c_FL + weight_L * dx_FL * dy_L,
        )

    def pearson(self) -> Floats:
        """r_FL in [-1, 1]; NaN where fewer than 3 rows are known or unit or label is constant (see `CONSTANT`)."""
        x_varies_FL = self.m2_x_FL > self.count_L * (CONSTANT * self.mean_x_FL) ** 2
        y_varies_L = self.m2_y_L > self.count_L * (CONSTANT * self.mean_y_L) ** 2
        defined_FL = x_varies_FL & y_varies_L & (self.count_L >= 3)
        scale_FL = np.where(defined_FL, np.sqrt(self.m2_x_FL) * np.sqrt(self.m2_y_L), np.nan)
        return np.clip(self.c_FL / scale_FL, -1.0, 1.0)


class _UnitMoments(NamedTuple):
    mean_FL: Floats
    m2_FL: Floats
    c_FL: Floats


def _unit_moments(x_NF: UnitValues, y_NL: Floats, mask_NG: Bools, group_L: Ints) -> _UnitMoments:
    """Three matrix products around a pivot (0 when sparse), then two passes for the few pairs that lose digits."""
    n_G = np.maximum(mask_NG.sum(axis=0), 1)
    pivot_F = np.zeros(x_NF.shape[1]) if sparse.issparse(x_NF) else x_NF.mean(axis=0)
    d_NF = x_NF if sparse.issparse(x_NF) else x_NF - pivot_F
    weight_NG = mask_NG.astype(np.float64)
    mean_FG = d_NF.T @ weight_NG / n_G
    m2_FG = np.maximum((d_NF * d_NF).T @ weight_NG - n_G * mean_FG**2, 0.0)
    c_FL = d_NF.T @ y_NL
    lossy_FG = n_G * mean_FG**2 > ILL_CONDITIONED * m2_FG
    mean_FG += pivot_F[:, None] * mask_NG.any(axis=0)
    for g in np.flatnonzero(lossy_FG.any(axis=0)):
        rows, units, labels = (
            np.flatnonzero(mask_NG[:, g]),
            np.flatnonzero(lossy_FG[:, g]),
            np.flatnonzero(group_L == g),
        )
        mean_FG[units, g], d_nf = _centred(_dense(x_NF[rows][:, units]), np.True_)
        m2_FG[units, g] = (d_nf**2).sum(axis=0)
        c_FL[np.ix_(units, labels)] = d_nf.T @ y_NL[np.ix_(rows, labels)]
    return _UnitMoments(mean_FG[:, group_L], m2_FG[:, group_L], c_FL)


def _patterns(known_NL: Bools) -> tuple[Bools, Ints]:
    """The distinct columns mask_NG of `known_NL`, and which of them each label has."""
    keys_L = [column.tobytes() for column in np.packbits(known_NL, axis=0).T]
    group_of = {key: g for g, key in enumerate(dict.fromkeys(keys_L))}
    group_L = np.array([group_of[key] for key in keys_L])
    return known_NL[:, np.unique(group_L, return_index=True)[1]], group_L


def _centred(v_NK: Floats, known_NK: Bools | np.bool_) -> tuple[Floats, Floats]:
    """Column means over known rows, and deviations from them (0 where not known).

    The mean is corrected once by the mean deviation: a long plain sum would leave a constant column with n eps.
    """
    known_NK = np.broadcast_to(known_NK, v_NK.shape)
    n_K = np.maximum(known_NK.sum(axis=0), 1)
    mean_K = np.where(known_NK, v_NK, 0.0).sum(axis=0) / n_K
    mean_K = mean_K + np.where(known_NK, v_NK - mean_K, 0.0).sum(axis=0) / n_K
    return mean_K, np.where(known_NK, v_NK - mean_K, 0.0)


def _dense(x_NF: UnitValues) -> Floats:
    return x_NF.toarray() if isinstance(x_NF, sparse.sparray) else x_NF
