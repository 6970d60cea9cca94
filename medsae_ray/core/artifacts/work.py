"""What a stage does with one shard. Nothing here knows of Ray, so a test or a plain loop runs it as it is."""

from typing import Any, Protocol

import pyarrow as pa


class ShardWork(Protocol):
    """A pure function of a shard in two halves, so that reading and decoding can run beside the model."""

    @property
    def rows(self) -> dict[int, int]:
        """Shard -> number of rows its part must have."""
        ...

    def prepare(self, shard: int) -> pa.Table:
        """CPU half: read and decode the shard's rows."""
        ...

    def load(self) -> Any:
        """The model, loaded once per process and given to `compute`."""
        ...

    def compute(self, model: Any, prepared: pa.Table) -> pa.Table:
        """Model half: the rows of the shard's part, in the declared schema."""
        ...
