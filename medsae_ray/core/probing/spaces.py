"""The columns that probes are on: dimensions, features, the principal components of the dimensions, and the dimensions
of an encoder with random weights, if a run has them.

Legend: n images, D dimensions, F features, P components.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medsae_ray.core.analysis.probes import ProbeRows
from medsae_ray.core.analysis.values import Bools, Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.layout import every_embedding
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.probing.curves import RANDOM, Spaces

FIT, JUDGE, TEST = 0, 1, 2
"""The roles of patients: they trained the SAE, the other patients of discovery, those of the test."""


class Table(NamedTuple):
    """The values of one image of each patient, by role, and where these are in the rows that were read."""

    fit: Spaces
    judge: Spaces
    test: Spaces
    rows: tuple[np.ndarray, np.ndarray, np.ndarray]

    @classmethod
    def of(cls, rows: ProbeRows, role_n: np.ndarray, most: int, random_nD: np.ndarray | None = None) -> "Table":
        """Split rows by role, with at most `most` components of the dimensions of the fitting patients. `random_nD` are
        the dimensions of an encoder with random weights."""
        at = tuple(np.flatnonzero(role_n == role) for role in (FIT, JUDGE, TEST))
        basis_DP = principal(rows.raw_nD[at[FIT]], most)
        fit, judge, test = (spaces(rows, chosen, basis_DP, random_nD) for chosen in at)
        return cls(fit, judge, test, (at[FIT], at[JUDGE], at[TEST]))


def spaces(rows: ProbeRows, chosen: np.ndarray, basis_DP: Floats, random_nD: np.ndarray | None = None) -> Spaces:
    """Return the values of the chosen rows."""
    raw_nD = rows.raw_nD[chosen]
    control = {} if random_nD is None else {RANDOM: random_nD[chosen]}
    return {"raw": raw_nD, "sae": rows.sae_nF[chosen], "components": raw_nD @ basis_DP} | control


@dataclass(frozen=True)
class DimensionsWork:
    """The contribution of a group of shards to the dimensions of some rows of the manifest."""

    embeddings: Artifact
    shard_N: np.ndarray
    chosen_N: Bools

    def groups(self) -> list[list[int]]:
        """Split the shards into groups as for the probes' other rows."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def compute(self, shards: Sequence[int]) -> np.ndarray:
        """Return the chosen rows of a group [n, D]; zeros for a row that has no embedding."""
        return np.concatenate([self._shard(shard) for shard in shards])

    def _shard(self, shard: int) -> np.ndarray:
        x_GD = every_embedding(self.embeddings.part(shard), 0)
        return np.asarray(x_GD[self.chosen_N[self.shard_N == shard]])


def principal(raw_nD: np.ndarray, most: int) -> Floats:
    """Return the directions [D, P] of largest variance, the largest first; none of no variance."""
    centred_nD = raw_nD.astype(np.float64)
    centred_nD -= centred_nD.mean(axis=0) if len(centred_nD) else 0.0
    variance_D, basis_DD = np.linalg.eigh(centred_nD.T @ centred_nD)
    order = np.argsort(-variance_D, kind="stable")[:most]
    return basis_DD[:, order[variance_D[order] > 1e-10 * variance_D.max(initial=0.0)]]
