"""Counts of images with an active unit and a label, which merge exactly, and their exact p-value.

Legend: N images, F units, L labels, S datasets.

Fisher (1935): with both margins of the 2 x 2 table fixed, the overlap of unrelated events is hypergeometric, however
rare they are. It assumes independent rows: one image per patient. Among several datasets the margins of each are fixed:
the overlap of all is then a sum of independent hypergeometric numbers, whose exact tail is the p-value of the
Cochran-Mantel-Haenszel hypothesis (Birch 1964, "The detection of partial association, I: the 2 x 2 case"). A unit that
merely knows a dataset's pictures, where a label is more frequent, does not pass it.
"""

from typing import NamedTuple, Self

import numpy as np
from scipy import stats

from medsae_ray.core.analysis.values import Bools, Floats, Ints, UnitValues, label_values, unit_values


class Overlap(NamedTuple):
    """The counts of images; an image with an unknown label (NaN) is left out for that label only."""

    known_SL: Ints
    positive_SL: Ints
    """The images with the label."""
    active_SFL: Ints
    """The images with a known label on which the unit is not 0."""
    both_SFL: Ints
    """The images with the label on which the unit is not 0."""

    @classmethod
    def of(cls, x_NF: UnitValues, y_NL: np.ndarray, dataset_N: Ints | None = None, datasets: int = 1) -> Self:
        """Count one shard, whose rows are of datasets `dataset_N` (0 unless given) out of so many.

        Raises ArtifactError if shapes disagree or a unit value is not finite.
        """
        x_NF = unit_values(x_NF)
        y_NL = label_values(y_NL, x_NF.shape[0])
        dataset_N = np.zeros(len(y_NL), np.int64) if dataset_N is None else dataset_N
        rows_of = (np.flatnonzero(dataset_N == s) for s in range(datasets))
        parts = [_counts(x_NF, y_NL)] if datasets == 1 else [_counts(x_NF[rows], y_NL[rows]) for rows in rows_of]
        return cls(*(np.stack(counts) for counts in zip(*parts, strict=True)))

    def merge(self, other: Self) -> "Overlap":
        """Add the counts of other images of the same units, labels and datasets."""
        return Overlap(*(mine + others for mine, others in zip(self, other, strict=True)))

    def p(self, label_F: Ints, fewer_F: Bools | None = None) -> Floats:
        """Compute the chance of an overlap as large or larger, of each unit with its label; NaN where `label_F` is -1.

        Compute that of one as small or smaller where `fewer_F`: for units that go with the label's absence.
        """
        found_F = np.full(len(label_F), np.nan)
        units = np.flatnonzero(label_F >= 0)
        fewer_J = np.zeros(len(units), dtype=bool) if fewer_F is None else fewer_F[units]
        known_SJ, positive_SJ, active_SJ, both_SJ = self._of(units, label_F[units])
        if len(known_SJ) == 1:
            table = (known_SJ[0], positive_SJ[0], active_SJ[0])
            more_J, less_J = stats.hypergeom.sf(both_SJ[0] - 1, *table), stats.hypergeom.cdf(both_SJ[0], *table)
            found_F[units] = np.where(fewer_J, less_J, more_J)
            return found_F
        for j, unit in enumerate(units):
            margins = zip(known_SJ[:, j].tolist(), positive_SJ[:, j].tolist(), active_SJ[:, j].tolist(), strict=True)
            found_F[unit] = _tail(list(margins), int(both_SJ[:, j].sum()), bool(fewer_J[j]))
        return found_F

    def area(self, label_F: Ints, fewer_F: Bools) -> Floats:
        """Compute the AUROC of "active or not" for the label (its absence where `fewer_F`); NaN where `label_F` is -1.

        Pairs of an image with the label and one without are of the same dataset.
        """
        found_F = np.full(len(label_F), np.nan)
        units = np.flatnonzero(label_F >= 0)
        known_SJ, positive_SJ, active_SJ, both_SJ = (counts.astype(float) for counts in self._of(units, label_F[units]))
        negative_SJ, false_SJ = known_SJ - positive_SJ, active_SJ - both_SJ
        pairs_J = (positive_SJ * negative_SJ).sum(axis=0)
        gain_J = (both_SJ * negative_SJ - false_SJ * positive_SJ).sum(axis=0) / np.where(pairs_J > 0, pairs_J, np.nan)
        found_F[units] = 0.5 + np.where(fewer_F[units], -gain_J, gain_J) / 2
        return found_F

    def _of(self, units: Ints, label_J: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Return the four counts [S, J] of units, each with its label."""
        margins = self.known_SL[:, label_J], self.positive_SL[:, label_J]
        return *margins, self.active_SFL[:, units, label_J], self.both_SFL[:, units, label_J]


def _counts(x_NF: UnitValues, y_NL: Floats) -> tuple[Ints, Ints, Ints, Ints]:
    known_NL, positive_NL = ~np.isnan(y_NL), y_NL == 1
    active_FN = (x_NF != 0).astype(np.float64).T
    active_FL, both_FL = ((active_FN @ rows.astype(np.float64)).astype(np.int64) for rows in (known_NL, positive_NL))
    return known_NL.sum(axis=0), positive_NL.sum(axis=0), active_FL, both_FL


def _tail(margins: list[tuple[int, int, int]], both: int, fewer: bool) -> float:
    """Return P(sum >= both), or <= both, of independent hypergeometric numbers of margins (known, positive, active).

    Each is cut 12 standard deviations and 30 from its mean, beyond which its mass is below a float's precision.
    """
    chance, first = np.ones(1), 0
    for known, positive, active in margins:
        mean = positive * active / max(known, 1)
        reach = 30 + 12 * np.sqrt(mean * (1 - positive / max(known, 1)))
        low = max(0, positive + active - known, int(mean - reach))
        high = min(positive, active, int(mean + reach) + 1)
        chance = np.convolve(chance, stats.hypergeom.pmf(np.arange(low, high + 1), known, positive, active))
        first += low
    place = both - first
    tail = chance[: max(place + 1, 0)] if fewer else chance[max(place, 0) :]
    return min(1.0, float(tail.sum()))
