"""What the numbers of one image's row are: an embedding, or the tokens of its patches one after the other.

The schema of an embeddings artifact says it, in its column `x`: as many numbers as one image has, and, where they are
those of patches, the patches' grid in the metadata of the field. Whoever reads `x` asks `Layout.of`.

Legend: N images, T tokens of an image, D embedding dimension.
"""

import math
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

_GRID = b"medsae.grid"


class Layout(NamedTuple):
    """`x` of one image: float32 [T * D], token by token in reading order."""

    dim: int
    """D."""
    grid: tuple[int, int] | None = None
    """(rows, columns) of the patches, T = rows * columns. None: one embedding of the whole image, T = 1."""

    @property
    def tokens(self) -> int:
        """T."""
        return math.prod(self.grid or ())

    @property
    def field(self) -> pa.Field:
        """The column `x` of an embeddings table."""
        item = pa.field("item", pa.float32(), nullable=False)
        metadata = {_GRID: "{}x{}".format(*self.grid)} if self.grid else None
        return pa.field("x", pa.list_(item, self.tokens * self.dim), metadata=metadata)

    @classmethod
    def of(cls, embeddings: pa.Schema) -> Self:
        """What the schema of an embeddings table says."""
        field = embeddings.field("x")
        stated = (field.metadata or {}).get(_GRID)
        if stated is None:
            return cls(field.type.list_size)
        rows, columns = map(int, stated.decode().split("x"))
        return cls(field.type.list_size // (rows * columns), (rows, columns))


def token_matrix(part: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(x float32 [N, T, D] of the rows that are ok, their row numbers); T is 1 where an image has one embedding."""
    layout = Layout.of(part.schema)
    rows = np.flatnonzero(part["ok"].to_numpy(zero_copy_only=False))
    column = part["x"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(-1, layout.tokens, layout.dim), rows


def embedding_matrix(part: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """As `token_matrix`, one embedding per image: float32 [N, D], of patches their mean."""
    x_NTD, rows = token_matrix(part)
    return (x_NTD[:, 0] if x_NTD.shape[1] == 1 else x_NTD.mean(1)), rows
