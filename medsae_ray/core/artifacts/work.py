"""A stage's work on one shard. It does not depend on Ray, so a test or a plain loop runs it too."""

from typing import Any, Protocol

import pyarrow as pa


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
