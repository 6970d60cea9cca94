"""The layout of one image's row: an embedding, or the tokens of its patches one after the other.

The schema of an embeddings artifact states it in its column `x`: the length of a row and, for patches, their grid in
the metadata of the field. Readers of `x` call `Layout.of`.

Legend: N images, T tokens of an image, D embedding dimension.
"""

import math
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

_GRID = b"medsae.grid"


class Layout(NamedTuple):
    """The row `x` of one image: float32 [T * D], token by token in reading order."""

    dim: int
    """The embedding dimension D."""
    grid: tuple[int, int] | None = None
    """The (rows, columns) of the patches, T = rows * columns; None for one embedding of the whole image, T = 1."""

    @property
    def tokens(self) -> int:
        """The number of tokens T."""
        return math.prod(self.grid or ())

    @property
    def field(self) -> pa.Field:
        """The column `x` of an embeddings table."""
        item = pa.field("item", pa.float32(), nullable=False)
        metadata = {_GRID: "{}x{}".format(*self.grid)} if self.grid else None
        return pa.field("x", pa.list_(item, self.tokens * self.dim), metadata=metadata)

    @classmethod
    def of(cls, embeddings: pa.Schema) -> Self:
        """Read the layout from the schema of an embeddings table."""
        field = embeddings.field("x")
        stated = (field.metadata or {}).get(_GRID)
        if stated is None:
            return cls(field.type.list_size)
        rows, columns = map(int, stated.decode().split("x"))
        return cls(field.type.list_size // (rows * columns), (rows, columns))


def token_matrix(part: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return (x float32 [N, T, D] of the rows that are ok, their row numbers); T is 1 for one embedding per image."""
    layout = Layout.of(part.schema)
    rows = np.flatnonzero(part["ok"].to_numpy(zero_copy_only=False))
    column = part["x"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, layout.tokens, layout.dim), rows


def every_embedding(part: pa.Table, lacking: float) -> np.ndarray:
    """Return the embedding of every image, float32 [N, D], with rows of `lacking` for those that have none."""
    values, rows = embedding_matrix(part)
    x_ND = np.full((part.num_rows, values.shape[1]), lacking, np.float32)
    x_ND[rows] = values
    return x_ND


def embedding_matrix(part: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """Return one embedding per image, float32 [N, D], the mean of its tokens, and the row numbers."""
    x_NTD, rows = token_matrix(part)
    return (x_NTD[:, 0] if x_NTD.shape[1] == 1 else x_NTD.mean(1)), rows
