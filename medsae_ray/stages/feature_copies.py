"""Features of a run that are copies of each other, and warnings about a dictionary that is wider than its data."""

from collections.abc import Iterator

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.copies import copies, spread
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix
from medsae_ray.core.artifacts.warnings import RunWarning

DEAD = 0.5
"""The share of dead features above which a warning is due."""
COPIED = 0.05
"""The share of the live features that are copies of another one, above which a warning is due."""


def copied(activations: Artifact, discovery_N: np.ndarray, width: int) -> list[list[int]]:
    """Group the features that are copies of each other on discovery images, for which `discovery_N` is True in
    manifest order; activations are read shard by shard."""
    rows = np.flatnonzero(discovery_N)
    chosen_N = np.zeros(len(discovery_N), dtype=bool)
    chosen_N[rows[spread(len(rows))]] = True
    blocks, start = [sparse.csr_array((0, width), dtype=np.float32)], 0
    for part in activations.parts:
        chosen = np.flatnonzero(chosen_N[start : start + part.rows])
        start += part.rows
        if len(chosen):
            blocks.append(activation_matrix(activations.part(part.shard, ["feature", "value"]), width)[chosen])
    return copies(sparse.csr_array(sparse.vstack(blocks)))


def feature_warnings(width: int, alive: int, groups: list[list[int]]) -> Iterator[RunWarning]:
    """Warn about dead and copied features; of `width` features, `alive` are active on some image."""
    dead = 1 - alive / width
    if dead > DEAD:
        yield RunWarning(
            "dead_features",
            f"{width - alive:,} of {width:,} features are active on no image: the dictionary is wider than this data "
            "fills. Leave what.sae.width out, or lower it",
            round(dead, 4),
        )
    more = sum(len(group) - 1 for group in groups)
    if alive and more / alive > COPIED:
        largest = max(map(len, groups))
        yield RunWarning(
            "copied_features",
            f"{more:,} of {alive:,} live features are copies of another one (the largest group has {largest:,}): the "
            "report shows each group once. Leave what.sae.width out, or lower it",
            more,
        )
