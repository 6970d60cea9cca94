"""The images that activate each unit most, one of each patient, as row numbers: they merge exactly in any order.

`units.TopImages` keeps the same by identifiers, for people. Here only labels are looked up, so numbers suffice.

Legend: N images, F units, K images of a unit, T entries (unit by unit, best first).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.group_best import group_best
from medsae_ray.core.analysis.values import Floats, Ints, UnitValues, unit_values
from medsae_ray.errors import ArtifactError

ROWS = 4096
"""The rows of a dense matrix whose entries are sorted at once."""


@dataclass(frozen=True)
class Strongest:
    """Up to `k` images per unit with the largest values, one per group (patient); ties go to the lower row number."""

    units: int
    k: int
    low_F: Floats
    """The smallest value of the unit on any image, inf over none."""
    high_F: Floats
    unit_T: Ints
    row_T: Ints
    group_T: Ints
    value_T: Floats

    @classmethod
    def zero(cls, units: int, k: int) -> Self:
        """Return the identity of `merge`: no images. Raises ArtifactError if k is below 1."""
        if k < 1:
            raise ArtifactError(f"{k} strongest images were asked for, at least 1 is needed")
        none = np.zeros(0, np.int64)
        return cls(units, k, np.full(units, np.inf), np.full(units, -np.inf), none, none, none, np.zeros(0))

    @classmethod
    def of(cls, x_NF: UnitValues, row_N: Ints, group_N: Ints, k: int, least: float = 0.0) -> Self:
        """Take the strongest of some images, of values above `least`, which is 0 or, for dense values, anything.

        `row_N` numbers the images and `group_N` their patients, both from 0 and the same for all shards.
        Raises ArtifactError if a value is not finite or the numbers are not one per image.
        """
        x_NF = unit_values(x_NF)
        if not x_NF.shape[0] == len(row_N) == len(group_N):
            raise ArtifactError(f"{x_NF.shape[0]} rows of units, {len(row_N)} row numbers and {len(group_N)} groups")
        found = cls.zero(x_NF.shape[1], k)
        for start in range(0, x_NF.shape[0], ROWS):
            rows = slice(start, start + ROWS)
            found = found.merge(cls._block(x_NF[rows], row_N[rows], group_N[rows], k, least))
        return found

    @classmethod
    def _block(cls, x_nF: UnitValues, row_n: Ints, group_n: Ints, k: int, least: float) -> Self:
        low_F, high_F = x_nF.min(axis=0), x_nF.max(axis=0)
        if isinstance(x_nF, sparse.sparray):
            low_F, high_F = low_F.toarray().ravel(), high_F.toarray().ravel()
        order_n = np.argsort(row_n)
        unit_T, at_T, value_T = group_best(x_nF[order_n], group_n[order_n], k, least)
        at_T = order_n[at_T]
        return cls(x_nF.shape[1], k, low_F, high_F, unit_T, row_n[at_T], group_n[at_T], value_T)._best()

    def merge(self, other: Self) -> Self:
        """Merge with the strongest of other images: exact in any order, with identity `zero`."""
        if (self.units, self.k) != (other.units, other.k):
            raise ArtifactError(
                f"the {self.k} strongest images of {self.units} units and the {other.k} of {other.units} do not merge"
            )
        low_F, high_F = np.minimum(self.low_F, other.low_F), np.maximum(self.high_F, other.high_F)
        names = ("unit_T", "row_T", "group_T", "value_T")
        entries = [np.concatenate([getattr(self, name), getattr(other, name)]) for name in names]
        return type(self)(self.units, self.k, low_F, high_F, *entries)._best()

    def above_low(self) -> Self:
        """Leave out images on which the unit has its smallest value."""
        return self._where(self.value_T > self.low_F[self.unit_T])

    def rows(self) -> Ints:
        """Return the row numbers [F, K], best first and -1 after the last; none of a unit that is equal on all."""
        row_FK = np.full((self.units, self.k), -1, np.int64)
        rank_T = np.arange(len(self.unit_T)) - np.searchsorted(self.unit_T, self.unit_T)
        row_FK[self.unit_T, rank_T] = self.row_T
        row_FK[self.low_F == self.high_F] = -1
        return row_FK

    def _best(self) -> Self:
        """Keep the best image per unit and group, then the best k per unit."""
        found = self._where(np.lexsort((self.row_T, -self.value_T, self.unit_T)))
        key_T = found.unit_T * (int(found.group_T.max(initial=0)) + 1) + found.group_T
        found = found._where(np.sort(np.unique(key_T, return_index=True)[1]))
        rank_T = np.arange(len(found.unit_T)) - np.searchsorted(found.unit_T, found.unit_T)
        return found._where(rank_T < self.k)

    def _where(self, chosen: np.ndarray) -> Self:
        entries = (entry[chosen] for entry in (self.unit_T, self.row_T, self.group_T, self.value_T))
        return type(self)(self.units, self.k, self.low_F, self.high_F, *entries)
