"""The images that SAIL names a feature from, and those that its name is judged on: strong ones, unlike each other.

SAIL (github.com/pwesp/sail, src/feature_sampling.py): of the 20 images that activate a feature most, one of each
patient, five are chosen by max-min diversity of their whole sparse codes, beginning with the strongest.

Legend: N images, F features, A images to choose from (strongest first), G images of a group.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Ints
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.monosemanticity.strongest import Strongest

STRONGEST, SHOWN = 20, 5
"""The images to choose from, and those chosen: SAIL's numbers."""


def diverse(z_AF: sparse.csr_array, count: int) -> Ints:
    """Choose up to `count` rows by greedy max-min (Gonzalez 1985): the first, then each time the row whose nearest
    chosen one is farthest, by 1 - cosine of the whole codes; of equally far ones the earlier.

    A row of zeros has cosine 0 with every other.
    """
    z = sparse.csr_array(z_AF).astype(np.float64)
    norm_A = np.sqrt(np.asarray(z.multiply(z).sum(axis=1)).ravel())
    unit = sparse.diags_array(1 / np.where(norm_A > 0, norm_A, 1)) @ z
    chosen, nearest_A = [], np.full(z.shape[0], np.inf)
    for _ in range(min(count, z.shape[0])):
        chosen.append(int(nearest_A.argmax()))
        away_A = 1 - (unit @ unit[[chosen[-1]]].T).toarray().ravel()
        nearest_A = np.minimum(nearest_A, np.round(away_A, 12))  # equal codes are equally far, whatever the rounding
        nearest_A[chosen] = -np.inf
    return np.array(chosen, dtype=np.int64)


class Seen(NamedTuple):
    """What the shards of a group say of each feature, for naming and for judging."""

    naming: Strongest
    judging: Strongest
    active_F: Ints
    """The naming images on which each feature is active."""
    images: int
    """The naming images."""

    def merge(self, other: "Seen") -> "Seen":
        """Merge with other images: exact in any order."""
        return Seen(
            self.naming.merge(other.naming),
            self.judging.merge(other.judging),
            self.active_F + other.active_F,
            self.images + other.images,
        )


@dataclass(frozen=True)
class StrongestWork:
    """The search over groups of shards for each feature's strongest images, of naming and of judging patients."""

    activations: Artifact
    width: int
    shard_N: Ints
    patient_N: Ints
    """The patient of each image, as a number."""
    naming_N: np.ndarray
    judging_N: np.ndarray

    def groups(self) -> list[list[int]]:
        """Return the shards of each group."""
        return shard_groups(part.shard for part in self.activations.parts)

    def nothing(self) -> Seen:
        """Return the result over no images."""
        none = Strongest.zero(self.width, STRONGEST)
        return Seen(none, none, np.zeros(self.width, np.int64), 0)

    def compute(self, shards: Sequence[int]) -> Seen:
        """Look through the shards of a group."""
        found = self.nothing()
        for shard in shards:
            row_G = np.flatnonzero(self.shard_N == shard)
            z_GF = activation_matrix(self.activations.part(shard, ["feature", "value"]), self.width)
            naming_G = self.naming_N[row_G]
            naming, judging = (
                self._strongest(z_GF, row_G, mask_N[row_G]) for mask_N in (self.naming_N, self.judging_N)
            )
            z_GF = z_GF[np.flatnonzero(naming_G)]
            active_F = np.bincount(z_GF.indices[z_GF.data > 0], minlength=self.width)
            found = found.merge(Seen(naming, judging, active_F, int(naming_G.sum())))
        return found

    def _strongest(self, z_GF: sparse.csr_array, row_G: Ints, chosen_G: np.ndarray) -> Strongest:
        if not chosen_G.any():
            return Strongest.zero(self.width, STRONGEST)
        rows = row_G[chosen_G]
        return Strongest.of(z_GF[np.flatnonzero(chosen_G)], rows, self.patient_N[rows], STRONGEST)


@dataclass(frozen=True)
class StoredCodesWork:
    """The whole codes of some images, read from their shards."""

    activations: Artifact
    width: int
    shard_N: Ints
    wanted_N: np.ndarray

    def groups(self) -> list[list[int]]:
        """Return the shards of each group that hold a wanted image."""
        wanted = set(np.unique(self.shard_N[self.wanted_N]).tolist())
        return shard_groups(part.shard for part in self.activations.parts if part.shard in wanted)

    def compute(self, shards: Sequence[int]) -> "StoredCodes":
        """Read the codes of a group."""
        found = []
        for shard in shards:
            row_G = np.flatnonzero(self.shard_N == shard)
            wanted_G = np.flatnonzero(self.wanted_N[row_G])
            z_GF = activation_matrix(self.activations.part(shard, ["feature", "value"]), self.width)
            found.append(StoredCodes(row_G[wanted_G], z_GF[wanted_G]))
        return StoredCodes.join(found, self.width)


class StoredCodes(NamedTuple):
    """The codes of some images, by their rows in the manifest, ascending."""

    row_n: Ints
    z_nF: sparse.csr_array

    @classmethod
    def join(cls, parts: Iterable[Self], width: int) -> Self:
        """Return the codes of several parts as one."""
        parts = list(parts)
        row_n = np.concatenate([np.zeros(0, np.int64), *(part.row_n for part in parts)])
        z_nF = sparse.csr_array(sparse.vstack([sparse.csr_array((0, width)), *(part.z_nF for part in parts)]))
        order = np.argsort(row_n, kind="stable")
        return cls(row_n[order], sparse.csr_array(z_nF[order]))

    def of(self, rows: Ints) -> sparse.csr_array:
        """Return the codes of these rows of the manifest."""
        return sparse.csr_array(self.z_nF[np.searchsorted(self.row_n, rows)])

    def distinct(self, rows: Ints) -> Ints:
        """Choose `SHOWN` of rows, strongest first, by their diversity."""
        return rows[diverse(self.of(rows), SHOWN)]


def strongest_rows(row_FK: Ints, feature: int) -> Ints:
    """Return a feature's rows of `Strongest.rows`, without the places that no image has."""
    rows: Ints = row_FK[feature][row_FK[feature] >= 0]
    return rows
