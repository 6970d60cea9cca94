"""A stage's work on one shard. It does not depend on Ray, so a test or a plain loop runs it too."""

from collections.abc import Iterable
from typing import Any, Protocol

import pyarrow as pa

GROUP = 16
"""The shards per partial sum: fixed, so that the order of additions does not depend on the cluster."""


def shard_groups(shards: Iterable[int]) -> list[list[int]]:
    """Split shards, in their order, into groups of `GROUP`; the last may have fewer."""
    there = list(shards)
    return [there[start : start + GROUP] for start in range(0, len(there), GROUP)]


class ShardWork(Protocol):
    """A pure function of a shard in two halves, so that reading and decoding can overlap with the model."""

    @property
    def rows(self) -> dict[int, int]:
        """The number of rows that each shard's part must have."""
        ...

    def prepare(self, shard: int) -> pa.Table:
        """Read and decode the shard's rows: the CPU half."""
        ...

    def load(self) -> Any:
        """Load the model, once per process, for `compute`."""
        ...

    def compute(self, model: Any, prepared: pa.Table) -> pa.Table:
        """Compute the rows of the shard's part in the declared schema: the model half."""
        ...
