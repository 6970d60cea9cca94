"""The two passes over embeddings of stage `likeness`, in groups of shards: the estimator's sums, then distances.

Legend: N images, G images of a part, R reference images, D embedding dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np

from medsae_ray.core.analysis.likeness import Estimator
from medsae_ray.core.analysis.scatter import Scatter
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.layout import embedding_matrix
from medsae_ray.core.artifacts.work import shard_groups


class Fit(NamedTuple):
    """What an estimator is made of."""

    scatter: Scatter
    x_RD: np.ndarray
    """The references."""

    def merge(self, other: "Fit") -> "Fit":
        """Return that of both sets of images."""
        return Fit(self.scatter.merge(other.scatter), np.concatenate([self.x_RD, other.x_RD]))


@dataclass(frozen=True)
class FitWork:
    """The images that the estimator is fitted on."""

    embeddings: Artifact
    shard_N: np.ndarray
    fitted_N: np.ndarray
    reference_N: np.ndarray
    """The references among them."""
    dataset_N: np.ndarray
    """The number of each image's dataset."""
    datasets: int

    def groups(self) -> list[list[int]]:
        """Return the shards of each group."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def compute(self, shards: Sequence[int]) -> Fit:
        """Sum a group's embeddings."""
        return reduce(Fit.merge, map(self._part, shards))

    def _part(self, shard: int) -> Fit:
        x_GD, ok_G = embedding_matrix(self.embeddings.part(shard))
        row_G = np.flatnonzero(self.shard_N == shard)[ok_G]
        fitted_G = self.fitted_N[row_G]
        scatter = Scatter.of(x_GD[fitted_G], self.dataset_N[row_G[fitted_G]], self.datasets)
        return Fit(scatter, x_GD[self.reference_N[row_G]])


@dataclass(frozen=True)
class DistanceWork:
    """The distance of every image."""

    embeddings: Artifact
    estimator: Estimator

    def groups(self) -> list[list[int]]:
        """Return the shards of each group."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def compute(self, shards: Sequence[int]) -> Floats:
        """Return the distances of a group's images, NaN for those without an embedding."""
        return np.concatenate([self._part(shard) for shard in shards])

    def _part(self, shard: int) -> Floats:
        part = self.embeddings.part(shard)
        x_GD, ok_G = embedding_matrix(part)
        found_G = np.full(part.num_rows, np.nan)
        found_G[ok_G] = self.estimator.distances(x_GD)
        return found_G
