"""What the small encoder of slices is trained to give: the sum of a direction for each thing that holds for a slice.

The directions are orthogonal. Organs that are seen together, a station, share one beside their own.

Legend: N slices, D embedding dimension, K targets, O organs.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from torch import Tensor

from medsae_ray.core.images.nifti import PLANES
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.core.phantom.volumes.slices import TARGETS

STATIONS = 10
"""The groups of organs that are seen together."""


class Lengths(NamedTuple):
    """The lengths of the targets' directions; a station's is that of a slice which shows all of its organs."""

    organ: float
    station: float
    plane: float
    modality: float
    person: float

    def own(self) -> tuple[float, ...]:
        """Return the length of each target's own direction [K]."""
        return (*(self.organ for _ in ORGANS), *(self.plane for _ in PLANES), self.modality, self.person, self.person)


def directions(dimensions: int) -> Tensor:
    """Return an orthonormal basis of the embeddings' space: [D, D]."""
    rng = np.random.default_rng(0)
    basis_DD, _ = np.linalg.qr(rng.standard_normal((dimensions, dimensions)))
    return torch.from_numpy(basis_DD.astype(np.float32))


def stations(y_NK: Tensor) -> NDArray[np.int64]:
    """Return each organ's station [O]: the cluster, by complete linkage, of organs whose presence correlates."""
    distance_OO = 1 - np.corrcoef(y_NK[:, : len(ORGANS)].numpy(), rowvar=False)
    pairs = linkage(distance_OO[np.triu_indices(len(ORGANS), 1)], "complete")
    station_O: NDArray[np.int64] = fcluster(pairs, STATIONS, "maxclust") - 1
    return station_O


def code(station_O: NDArray[np.int64], lengths: Lengths, dimensions: int) -> Tensor:
    """Return what each target adds to an embedding [K, D]: its own direction, and an organ's part of its station's."""
    basis_DD = directions(dimensions)
    code_KD = basis_DD[: len(TARGETS)] * torch.tensor(lengths.own())[:, None]
    shares_O = 1 / np.bincount(station_O)[station_O]
    for organ, (station, share) in enumerate(zip(station_O, shares_O, strict=True)):
        code_KD[organ] += lengths.station * share * basis_DD[len(TARGETS) + station]
    return code_KD
