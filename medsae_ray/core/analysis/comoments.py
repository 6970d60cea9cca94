"""Co-moments of every unit with every label: partial sums of Pearson's r that merge in any order.

An unknown label (NaN) leaves its row out for that label only (pairwise deletion), so each unit has one mean
and one variance per label. Rows may have weights, for each label its own: then n below is their sum.

A unit's mean and variance are kept once for all labels that are known on the same rows. Shuffled labels are thousands,
and most are known on the same rows: then the products with labels are all that takes memory.

Legend: N images, F units, L labels, G distinct columns of weights (labels known on the same rows share one).

Chan, Golub & LeVeque (1979), "Updating formulae and a pairwise algorithm for computing sample variances".
Pébay (2008), "Formulas for robust, one-pass parallel computation of covariances", SAND2008-6212.
"""

from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats, Ints, UnitValues, label_values, unit_values
from medsae_ray.errors import ArtifactError

CONSTANT = 1e-12
"""A standard deviation up to this fraction of |mean| counts as 0. Rounding leaves about 1e-15 on a constant column
whatever the sharding; float32 data that really vary have 1e-9 or more."""

ILL_CONDITIONED = 100.0
"""The ratio of mean^2 to variance above which sum(x^2) - n mean^2 loses digits and the pair is computed in two
passes."""


@dataclass(frozen=True)
class Comoments:
    """A commutative monoid with identity `zero`; merging is exact up to float64 rounding."""

    count_L: Ints
    """The number of rows whose label is known."""
    weight_L: Floats
    """The sum of their weights; their number if rows have none."""
    group_L: Ints
    """The column of each label in the two below, numbered in the order of labels. Labels that share one were known on
    the same rows with the same weights."""
    mean_x_FG: Floats
    """The mean of the unit over these rows; 0 without rows."""
    m2_x_FG: Floats
    """The sum of squared deviations of the unit."""
    mean_y_L: Floats
    m2_y_L: Floats
    c_FL: Floats
    """The sum of products of deviations of unit and label."""

    @classmethod
    def zero(cls, units: int, labels: int) -> Self:
        """Return the co-moments of no rows."""
        one_L, one_F1 = np.zeros(labels), np.zeros((units, min(labels, 1)))
        none_L = np.zeros(labels, np.int64)
        return cls(none_L, one_L, none_L, one_F1, one_F1, one_L, one_L, np.zeros((units, labels)))

    @classmethod
    def of(cls, x_NF: UnitValues, y_NL: np.ndarray, weight_NL: Floats | None = None) -> Self:
        """Compute the co-moments of one shard; `weight_NL` are its rows' weights above 0, per label (None: all 1).

        Raises ArtifactError if shapes disagree or a unit value is not finite.
        """
        x_NF = unit_values(x_NF)
        y_NL = label_values(y_NL, x_NF.shape[0])
        if 0 in x_NF.shape or 0 in y_NL.shape:
            return cls.zero(x_NF.shape[1], y_NL.shape[1])
        known_NL = ~np.isnan(y_NL)
        w_NL = np.where(known_NL, 1.0 if weight_NL is None else weight_NL, 0.0)
        mean_y_L, y_NL = _centred(y_NL, w_NL)
        weight_NG, group_L = _patterns(w_NL)
        x = _unit_moments(x_NF, w_NL * y_NL, weight_NG, group_L)
        m2_y_L = (w_NL * y_NL**2).sum(axis=0)
        counts = known_NL.sum(axis=0), w_NL.sum(axis=0)
        return cls(*counts, group_L, x.mean_FG, x.m2_FG, mean_y_L, m2_y_L, x.c_FL)

    def merge(self, other: Self) -> Self:
        """Return the co-moments of both sets of rows (Pébay 2008). The sets must not overlap."""
        if self.c_FL.shape != other.c_FL.shape:
            raise ArtifactError(f"co-moments of shape {self.c_FL.shape} and {other.c_FL.shape} cannot be merged")
        if not (self.weight_L.any() and other.weight_L.any()):  # many slices of few patients: half of all shards
            return self if self.weight_L.any() else other
        n_L = self.weight_L + other.weight_L
        total_L = np.where(n_L > 0, n_L, 1.0)
        a_L, b_L = self.weight_L / total_L, other.weight_L / total_L
        weight_L = self.weight_L * other.weight_L / total_L
        first_G, group_L = _shared(self.group_L, other.group_L)
        own_G, other_G = self.group_L[first_G], other.group_L[first_G]
        dx_FG = other.mean_x_FG[:, other_G] - self.mean_x_FG[:, own_G]
        dy_L = other.mean_y_L - self.mean_y_L
        c_FL, between_FL = self.c_FL + other.c_FL, dx_FG[:, group_L]
        between_FL *= weight_L
        between_FL *= dy_L
        c_FL += between_FL
        return type(self)(
            count_L=self.count_L + other.count_L,
            weight_L=n_L,
            group_L=group_L,
            mean_x_FG=a_L[first_G] * self.mean_x_FG[:, own_G] + b_L[first_G] * other.mean_x_FG[:, other_G],
            m2_x_FG=self.m2_x_FG[:, own_G] + other.m2_x_FG[:, other_G] + weight_L[first_G] * dx_FG**2,
            mean_y_L=a_L * self.mean_y_L + b_L * other.mean_y_L,
            m2_y_L=self.m2_y_L + other.m2_y_L + weight_L * dy_L**2,
            c_FL=c_FL,
        )

    def of_labels(self, labels: slice) -> Self:
        """Return the co-moments with some of the labels."""
        one = (self.mean_y_L[labels], self.m2_y_L[labels], self.c_FL[:, labels])
        counts = self.count_L[labels], self.weight_L[labels]
        return type(self)(*counts, self.group_L[labels], self.mean_x_FG, self.m2_x_FG, *one)

    def pearson(self) -> Floats:
        """Return r_FL in [-1, 1]; NaN where fewer than 3 rows (or a weight of 3) are known, or unit or label is
        constant (see `CONSTANT`)."""
        m2_x_FL, mean_x_FL = self.m2_x_FG[:, self.group_L], self.mean_x_FG[:, self.group_L]
        x_varies_FL = m2_x_FL > self.weight_L * (CONSTANT * mean_x_FL) ** 2
        y_varies_L = self.m2_y_L > self.weight_L * (CONSTANT * self.mean_y_L) ** 2
        defined_FL = x_varies_FL & y_varies_L & (np.round(self.weight_L, 6) >= 3)
        scale_FL = np.where(defined_FL, np.sqrt(m2_x_FL) * np.sqrt(self.m2_y_L), np.nan)
        r_FL: Floats = np.clip(self.c_FL / scale_FL, -1.0, 1.0)
        return r_FL


def _shared(group_L: Ints, other_L: Ints) -> tuple[Ints, Ints]:
    """Return the first label [G] of each pair of groups, and the number of each label's pair, in the labels' order."""
    keys_L = group_L * (other_L.max(initial=0) + 1) + other_L
    _, first_P, pair_L = np.unique(keys_L, return_index=True, return_inverse=True)
    order_G = np.argsort(first_P)
    return first_P[order_G], np.argsort(order_G)[pair_L]


class _UnitMoments(NamedTuple):
    mean_FG: Floats
    m2_FG: Floats
    c_FL: Floats


def _unit_moments(x_NF: UnitValues, wy_NL: Floats, weight_NG: Floats, group_L: Ints) -> _UnitMoments:
    """Compute three matrix products around a pivot (0 when sparse), and two passes for pairs that lose digits."""
    n_G = weight_NG.sum(axis=0)
    n_G = np.where(n_G > 0, n_G, 1.0)
    pivot_F = np.zeros(x_NF.shape[1]) if sparse.issparse(x_NF) else x_NF.mean(axis=0)
    d_NF = x_NF if sparse.issparse(x_NF) else x_NF - pivot_F
    mean_FG = d_NF.T @ weight_NG / n_G
    m2_FG = np.maximum((d_NF * d_NF).T @ weight_NG - n_G * mean_FG**2, 0.0)
    c_FL = d_NF.T @ wy_NL
    lossy_FG = n_G * mean_FG**2 > ILL_CONDITIONED * m2_FG
    mean_FG += pivot_F[:, None] * weight_NG.any(axis=0)
    for g in np.flatnonzero(lossy_FG.any(axis=0)):
        rows, units, labels = (
            np.flatnonzero(weight_NG[:, g]),
            np.flatnonzero(lossy_FG[:, g]),
            np.flatnonzero(group_L == g),
        )
        w_N1 = weight_NG[rows, g][:, None]
        mean_FG[units, g], d_nf = _centred(_dense(x_NF[rows][:, units]), w_N1)
        m2_FG[units, g] = (w_N1 * d_nf**2).sum(axis=0)
        c_FL[np.ix_(units, labels)] = d_nf.T @ wy_NL[np.ix_(rows, labels)]
    return _UnitMoments(mean_FG, m2_FG, c_FL)


def _patterns(weight_NL: Floats) -> tuple[Floats, Ints]:
    """Return the distinct columns weight_NG of `weight_NL`, and the index of each label's column."""
    keys_L = [column.tobytes() for column in np.ascontiguousarray(weight_NL.T)]
    group_of = {key: g for g, key in enumerate(dict.fromkeys(keys_L))}
    group_L = np.array([group_of[key] for key in keys_L])
    return weight_NL[:, np.unique(group_L, return_index=True)[1]], group_L


def _centred(v_NK: Floats, weight_NK: Floats) -> tuple[Floats, Floats]:
    """Return weighted column means, and deviations from them (0 without weight).

    The mean is corrected once by the mean deviation: a long plain sum would leave a constant column with n eps.
    """
    weight_NK = np.broadcast_to(weight_NK, v_NK.shape)
    n_K = weight_NK.sum(axis=0)
    n_K, known_NK = np.where(n_K > 0, n_K, 1.0), weight_NK > 0
    mean_K = np.where(known_NK, weight_NK * v_NK, 0.0).sum(axis=0) / n_K
    mean_K = mean_K + np.where(known_NK, weight_NK * (v_NK - mean_K), 0.0).sum(axis=0) / n_K
    return mean_K, np.where(known_NK, v_NK - mean_K, 0.0)


def _dense(x_NF: UnitValues) -> Floats:
    return x_NF.toarray() if isinstance(x_NF, sparse.sparray) else x_NF
