"""Fingerprints: an image's k strongest features, and the values that it has on them.

After SAIL (github.com/pwesp/sail, src/fingerprint_retrieval.py): features that are active on every image are left out,
and images are compared by their cosine on the k coordinates alone, or by 1 / (1 + |difference|) of a single one. Unlike
there, a fingerprint has no coordinate on which its own image is inactive: an image with fewer than k active features
has no fingerprint of size k.

Legend: Q queries, K coordinates of the largest fingerprint, F features, S sizes of fingerprints.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats


@dataclass(frozen=True)
class Fingerprints:
    """The fingerprints of several images, at every one of `sizes`: a smaller one is the beginning of a larger one."""

    coordinate_QK: np.ndarray
    """The coordinates of each query, the strongest first; -1 beyond `length_Q`."""
    value_QK: Floats
    """The query's own values there; 0 beyond `length_Q`."""
    length_Q: np.ndarray
    """The number of coordinates that each query has, at most K."""
    group_Q: np.ndarray
    """The group of each query, which its search leaves out; -1 for none."""
    sizes: tuple[int, ...]
    """The values of k, ascending."""

    @classmethod
    def strongest(cls, z_QF: sparse.csr_array, weight_F: Floats, group_Q: np.ndarray, sizes: Sequence[int]) -> Self:
        """Take each image's largest weighted activations above 0, equal ones in the order of features.

        A feature of weight 0 is in no fingerprint: that is how those active on every image are left out.
        """
        pairs = [_row(z_QF, row, weight_F) for row in range(z_QF.shape[0])]
        return cls._of([_ordered(features, values, values) for features, values in pairs], group_Q, sizes)

    @classmethod
    def largest(cls, x_QD: np.ndarray, group_Q: np.ndarray, sizes: Sequence[int]) -> Self:
        """Take each embedding's largest |values|, with their signs."""
        every = np.arange(x_QD.shape[1])
        return cls._of([_ordered(every, x_D.astype(np.float64), np.abs(x_D)) for x_D in x_QD], group_Q, sizes)

    @classmethod
    def _of(cls, found: list[tuple[np.ndarray, np.ndarray]], group_Q: np.ndarray, sizes: Sequence[int]) -> Self:
        most = max(sizes)
        coordinate_QK = np.full((len(found), most), -1, dtype=np.int64)
        value_QK = np.zeros((len(found), most))
        length_Q = np.array([min(len(coordinates), most) for coordinates, _ in found], dtype=np.int64)
        for query, ((coordinates, values), length) in enumerate(zip(found, length_Q, strict=True)):
            coordinate_QK[query, :length], value_QK[query, :length] = coordinates[:length], values[:length]
        return cls(coordinate_QK, value_QK, length_Q, group_Q, tuple(sorted(set(sizes))))

    @cached_property
    def has_QS(self) -> np.ndarray:
        """Return bool [Q, S]: the query has a fingerprint of that size."""
        has: np.ndarray = self.length_Q[:, None] >= np.array(self.sizes)
        return has

    @cached_property
    def norm_QS(self) -> Floats:
        """Return the norm of each query's values on its first k coordinates; 1 where that is 0."""
        square_QS = np.cumsum(self.value_QK**2, axis=1)[:, np.array(self.sizes) - 1]
        norm: Floats = np.sqrt(np.where(square_QS > 0, square_QS, 1.0))
        return norm

    def __len__(self) -> int:
        return len(self.length_Q)


def discriminating(n_active_F: np.ndarray, images: int) -> Floats:
    """Return the weights of a plain fingerprint: 1, and 0 for a feature that is active on all of `images`."""
    weight_F: Floats = (n_active_F < images).astype(np.float64)
    return weight_F


def rarity(n_active_F: np.ndarray, images: int) -> Floats:
    """Return log(images / n_active), the weight of a feature that is active on `n_active` of so many images.

    One that is active on none of them counts as active on one.
    """
    weight_F: Floats = np.log(max(images, 1) / np.clip(n_active_F, 1, max(images, 1)))
    return weight_F


def _row(z_QF: sparse.csr_array, row: int, weight_F: Floats) -> tuple[np.ndarray, np.ndarray]:
    span = slice(z_QF.indptr[row], z_QF.indptr[row + 1])
    features = z_QF.indices[span]
    values = z_QF.data[span].astype(np.float64) * weight_F[features]
    return features[values > 0], values[values > 0]


def _ordered(coordinates: np.ndarray, values: np.ndarray, strength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.lexsort((coordinates, -strength))
    return coordinates[order], values[order]
