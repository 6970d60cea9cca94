"""The percentile of an activation among a feature's own on the images of a run.

Legend: N images, F features.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.copies import IMAGES, spread
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix


@dataclass(frozen=True)
class OwnActivations:
    """The activations of each feature in ascending order, of at most 20,000 images: shares are then known to 0.4 points
    for a feature that all of them have, and to 5 for one that a hundred of them have."""

    values: list[np.ndarray]

    @classmethod
    def of(cls, activations: Artifact, width: int, most: int = IMAGES) -> Self:
        """Read them part by part, from at most so many images, spread evenly over the run."""
        rows, start = spread(sum(part.rows for part in activations.parts), most), 0
        blocks = [sparse.csr_array((0, width), dtype=np.float32)]
        for part in activations.parts:
            own = rows[(rows >= start) & (rows < start + part.rows)] - start
            start += part.rows
            blocks.append(activation_matrix(activations.part(part.shard, ["feature", "value"]), width)[own])
        z_NF = sparse.csc_array(sparse.vstack(blocks))
        columns = np.split(z_NF.data, z_NF.indptr[1:-1])
        return cls([np.sort(values[values > 0]) for values in columns])

    def percentile(self, feature: int, activation: float) -> float:
        """Return the share of the images with the feature on which it is no stronger, from 0 to 100; 0 if it is on
        none."""
        own = self.values[feature]
        return float(100 * np.searchsorted(own, np.float32(activation), side="right") / max(len(own), 1))
