"""How often a unit is active where a label is present: counts that merge exactly, and their exact p-value.

Legend: N images, F units, L labels.

Fisher (1935): with both margins of the 2 x 2 table fixed, the overlap of unrelated events is hypergeometric, however
rare they are. It assumes independent rows: one image per patient.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy import stats

from medsae_ray.core.analysis.values import Floats, Ints, UnitValues, label_values, unit_values


class Overlap(NamedTuple):
    """Counts of images; an image with an unknown label (NaN) is left out for that label only."""

    known_L: Ints
    positive_L: Ints
    """Images with the label."""
    active_FL: Ints
    """Images whose label is known and on which the unit is not 0."""
    both_FL: Ints
    """Those of them with the label."""

    @classmethod
    def of(cls, x_NF: UnitValues, y_NL: np.ndarray) -> Self:
        """One shard. ArtifactError if shapes disagree or a unit value is not finite."""
        x_NF = unit_values(x_NF)
        y_NL = label_values(y_NL, x_NF.shape[0])
        known_NL, positive_NL = ~np.isnan(y_NL), y_NL == 1
        active_FN = (x_NF != 0).astype(np.float64).T
        active_FL, both_FL = (
            (active_FN @ rows.astype(np.float64)).astype(np.int64) for rows in (known_NL, positive_NL)
        )
        return cls(known_NL.sum(axis=0), positive_NL.sum(axis=0), active_FL, both_FL)

    def merge(self, other: Self) -> "Overlap":
        return Overlap(*(mine + others for mine, others in zip(self, other, strict=True)))

    def p(self, label_F: Ints) -> Floats:
        """Chance of an overlap as large or larger, of each unit with its label; NaN where `label_F` is -1."""
        units = np.arange(len(label_F))
        known_F, positive_F = self.known_L[label_F], self.positive_L[label_F]
        active_F, both_F = self.active_FL[units, label_F], self.both_FL[units, label_F]
        return np.where(label_F >= 0, stats.hypergeom.sf(both_F - 1, known_F, positive_F, active_F), np.nan)
