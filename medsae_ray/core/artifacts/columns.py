"""Columns of stored tables as arrays, and back: NaN in arithmetic is null in a table and in JSON.

Legend: N images.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
from scipy import sparse

from medsae_ray.core.artifacts.artifact import Artifact, Receipt


def null_to_nan(value: Any) -> Any:
    """Return NaN for None, and any other value as it is."""
    return np.nan if value is None else value


def nan_to_null(value: Any) -> Any:
    """Return None for NaN, and any other value as it is."""
    return None if value != value else value


def with_nan(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored row or its like, with NaN for every None."""
    return {key: null_to_nan(value) for key, value in stored.items()}


def with_null(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row to be stored, with None for every NaN."""
    return {key: nan_to_null(value) for key, value in values.items()}


def nullable_column(values: np.ndarray) -> pa.Array:
    """Return a column of float64 that is null where `values` are NaN."""
    return pa.array(values.astype(np.float64), mask=np.isnan(values))


def column(table: pa.Table, name: str) -> np.ndarray:
    """Return one column of a table as an array; texts come as objects."""
    values: np.ndarray = table[name].to_numpy(zero_copy_only=False)
    return values


def readable(embeddings: Artifact) -> np.ndarray:
    """Return bool [N] in manifest order: the image has an embedding. Only parts with counted bad rows are read."""
    return np.concatenate([_ok(embeddings, part) for part in embeddings.parts])


def _ok(embeddings: Artifact, part: Receipt) -> np.ndarray:
    if not part.not_ok:
        return np.ones(part.rows, dtype=bool)
    return column(embeddings.part(part.shard, ["ok"]), "ok").astype(bool)


def activation_matrix(table: pa.Table, width: int) -> sparse.csr_array:
    """Return activations as float32 CSR [N, width]; an image that is not ok is an empty row."""
    feature = table["feature"].combine_chunks()
    lengths = pa.compute.fill_null(pa.compute.list_value_length(feature), 0).to_numpy(zero_copy_only=False)
    indptr = np.concatenate([[0], np.cumsum(lengths)])
    value = table["value"].combine_chunks()
    columns, values = (c.flatten().to_numpy(zero_copy_only=False) for c in (feature, value))
    return sparse.csr_array((values, columns, indptr), shape=(table.num_rows, width))
