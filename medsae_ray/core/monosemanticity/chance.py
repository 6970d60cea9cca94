"""What chance gives: labels of other images, for the measures that look labels up.

Legend: N images in the order of their image_id, F units, K images of a unit, L labels, S draws.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.analysis.values import Bools, Floats, Ints
from medsae_ray.core.datasets.splits import uniform_hash
from medsae_ray.core.monosemanticity import coherence
from medsae_ray.core.monosemanticity.sums import Images

MOST = 20_000
"""The most images whose pairs are all compared, drawn by their hash."""


@dataclass(frozen=True)
class Judge:
    """The labels of images, and of images drawn instead of them."""

    y_NL: Floats
    heldout_N: Bools
    """True for images of patients that the SAE was not trained on, of which some label is known."""
    test_N: Bools
    """True for one image of each test patient."""
    stratum_N: Ints
    """The dataset and split of each image, as a number: labels are exchanged within it."""
    image_N: np.ndarray
    draws: int
    seed: int

    @classmethod
    def of(cls, labels: Labels, ok_N: Bools, images: Images, draws: int, seed: int) -> "Judge":
        """Take the labels of a manifest's images in the order of their ids; `ok_N` marks those with an embedding."""
        order = images.order_N
        split_N = np.where(labels.training_N, 0, np.where(labels.discovery_N, 1, 2))
        y_NL = labels.y_NL[order]
        heldout_N = (ok_N & ~labels.training_N)[order] & coherence.judged(y_NL)
        stratum_N = (labels.dataset_N * 3 + split_N)[order]
        return cls(y_NL, heldout_N, labels.test_N[order], stratum_N, labels.image_N[order], draws, seed)

    @cached_property
    def labels(self) -> int:
        """The number of labels that are known of some held-out image."""
        return coherence.label_count(self.y_NL[self.heldout_N])

    def score(self, row_FK: Ints, null: float) -> tuple[coherence.CoherenceSpecificity, Floats]:
        """Return C and S of the units with these strongest images, and M."""
        found = coherence.coherence_specificity(self.y_NL, row_FK, self.labels)
        return found, coherence.score(found, null)

    def coherence_null(self) -> float:
        """Return the mean Jaccard index over all pairs of held-out images."""
        rows = np.flatnonzero(self.heldout_N)
        if len(rows) > MOST:
            drawn = np.array([uniform_hash("monosemanticity", str(image)) for image in self.image_N[rows]])
            rows = rows[np.argsort(drawn, kind="stable")[:MOST]]
        return coherence.mean_of_all_pairs(self.y_NL[rows])

    def subsets(self, k: int) -> Floats:
        """Return C of random subsets of k held-out images [S], SAIL's estimate of the null."""
        rows = np.flatnonzero(self.heldout_N)
        if len(rows) < k:
            return np.full(self.draws, np.nan)
        drawn = [_rng(self.seed, k, s).choice(len(rows), k, replace=False) for s in range(self.draws)]
        return coherence.coherence_specificity(self.y_NL, rows[np.array(drawn)], self.labels).c_F

    def purity(self, row_FK: Ints, best_F: Ints, present_F: Bools) -> Floats:
        """Return the share of a unit's strongest images with its label, or without it where it is not `present_F`.

        NaN without a label, for fewer than K images, and if it is known of less than half of them.
        """
        share_F, units = np.full(len(row_FK), np.nan), np.flatnonzero((row_FK >= 0).all(axis=1) & (best_F >= 0))
        y_UK = self.y_NL[row_FK[units], best_F[units, None]]
        known_U = (~np.isnan(y_UK)).sum(axis=1)
        enough = known_U * 2 >= row_FK.shape[1]
        having_U = (y_UK == present_F[units, None]).sum(axis=1)
        share_F[units[enough]] = having_U[enough] / known_U[enough]
        return share_F

    def prevalence(self, best_F: Ints, present_F: Bools) -> Floats:
        """Return the share of test patients with each unit's label, or without it; NaN if it is known of none."""
        y_nL = self.y_NL[self.test_N]
        known_L = (~np.isnan(y_nL)).sum(axis=0)
        having_L = np.nansum(y_nL, axis=0) / np.where(known_L > 0, known_L, np.nan)
        share_F, units = np.full(len(best_F), np.nan), np.flatnonzero(best_F >= 0)
        with_F = having_L[best_F[units]]
        share_F[units] = np.where(present_F[units], with_F, 1 - with_F)
        return share_F

    def exchanged(self, row_FK: Ints) -> Iterator[Ints]:
        """Yield, draw by draw, other images for a unit's: all of a stratum's are shuffled, whole rows of labels."""
        rows = np.flatnonzero(self.heldout_N)
        before = rows[np.argsort(self.stratum_N[rows], kind="stable")]
        for s in range(self.draws):
            key_N = _rng(self.seed, s).random(len(rows))
            other_N = np.full(len(self.y_NL), -1)
            other_N[before] = rows[np.lexsort((key_N, self.stratum_N[rows]))]
            yield np.where(row_FK >= 0, other_N[row_FK], -1)


def _rng(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))
