"""The codes of chosen images by an SAE whose activations are no artifact, such as one of a sweep.

Legend: N images, n chosen images of a group of shards, F features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy import sparse

from medsae_ray.core.artifacts.columns import activation_matrix, column
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.sae.activations import EncodeWork


class Codes(NamedTuple):
    """Chosen images as an SAE sees them."""

    row_n: np.ndarray
    """Their rows in the manifest."""
    z_nF: sparse.csr_array
    sq_error_n: np.ndarray
    """The squared error of each image, and its squared distance from the mean: see schema.activations."""
    sq_norm_n: np.ndarray
    active_n: np.ndarray
    """The number of active features, on an SAE of patches their sum over patches."""

    @classmethod
    def joined(cls, groups: Sequence[Self]) -> "Codes":
        """Join the images of all groups, in manifest order."""
        row, z, *rest = zip(*groups, strict=True)
        return cls(np.concatenate(row), sparse.vstack(z, format="csr"), *map(np.concatenate, rest))


@dataclass(frozen=True)
class CodesWork:
    """The contribution of a group of shards: the codes of its chosen images."""

    encode: EncodeWork
    width: int
    shard_N: np.ndarray
    chosen_N: np.ndarray
    """True for the images to encode."""

    def groups(self) -> list[list[int]]:
        """Split the shards into groups of one size, in shard order."""
        return shard_groups(self.encode.rows)

    def compute(self, shards: Sequence[int]) -> Codes:
        """Encode the chosen images of a group; those without an embedding are left out."""
        model = self.encode.load()
        return Codes.joined([self._shard(model, shard) for shard in shards])

    def _shard(self, model: object, shard: int) -> Codes:
        part, rows = self.encode.prepare(shard), np.flatnonzero(self.shard_N == shard)
        keep = self.chosen_N[rows] & column(part, "ok").astype(bool)
        table = self.encode.compute(model, part.filter(pa.array(keep)))  # type: ignore[arg-type]
        by_patch = "patch_active" in table.column_names
        active = table["patch_active"] if by_patch else pc.list_value_length(table["feature"])
        error, norm, active = (values.astype(np.float64) for values in (*_squares(table), active.to_numpy()))
        return Codes(rows[keep], activation_matrix(table, self.width), error, norm, active)


def _squares(table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    return column(table, "sq_error"), column(table, "sq_norm")
