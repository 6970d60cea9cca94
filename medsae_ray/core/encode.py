"""Embeddings -> sparse activations: the work of the `activations` stage on one shard."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import torch

from medsae_ray.core import schema
from medsae_ray.core.artifact import Artifact
from medsae_ray.core.sae.checkpoint import sae_from_bytes
from medsae_ray.core.sae.metrics import image_errors
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.sparse import sparse_rows


def embedding_matrix(part: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(x float32 [N, D] of the rows that are ok, their row numbers)."""
    rows = np.flatnonzero(part["ok"].to_numpy(zero_copy_only=False))
    column = part["x"].combine_chunks()
    column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
    dim = column.type.list_size
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim), rows


def load_artifact_sae(sae: Artifact) -> SAE:
    return sae_from_bytes(sae.file("weights"), sae.file("config"), sae.store.uri).sae


@dataclass(frozen=True)
class EncodeWork:
    """Encodes a shard's embeddings with a trained SAE."""

    embeddings: Artifact
    sae: Artifact
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 1024
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {part.shard: part.rows for part in self.embeddings.parts})

    def load(self) -> SAE:
        torch.set_num_threads(self.threads)
        return load_artifact_sae(self.sae).to(self.device).eval()

    def prepare(self, shard: int) -> pa.Table:
        return self.embeddings.part(shard)

    @torch.no_grad()
    def compute(self, model: SAE, prepared: pa.Table) -> pa.Table:
        x_ND, ok = embedding_matrix(prepared)
        encoded = [self._encode(model, x_ND[i : i + self.batch_size]) for i in range(0, len(ok), self.batch_size)]
        offsets, features, values, sq_error, sq_norm = _join(encoded)
        n = prepared.num_rows
        counts = np.zeros(n, dtype=np.int64)
        counts[ok] = np.diff(offsets)
        missing = np.ones(n, dtype=bool)
        missing[ok] = False
        starts = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        declared = schema.activations()
        columns = [
            prepared["image_id"],
            _lists(starts, features, declared.field("feature").type, missing),
            _lists(starts, values, declared.field("value").type, missing),
            _scattered(sq_error, ok, missing),
            _scattered(sq_norm, ok, missing),
        ]
        return pa.Table.from_arrays(columns, schema=declared)

    def _encode(self, model: SAE, x_BD: np.ndarray) -> tuple[np.ndarray, ...]:
        x = torch.tensor(x_BD, device=self.device)
        z_BM = model.encode(x)
        errors = image_errors(model, x, z_BM)
        return *sparse_rows(z_BM), errors.sq_error_N.cpu().numpy(), errors.sq_norm_N.cpu().numpy()


def _join(encoded: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    if not encoded:
        return np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0), np.empty(0)
    counts = np.concatenate([np.diff(batch[0]) for batch in encoded])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return (offsets, *(np.concatenate([batch[i] for batch in encoded]) for i in range(1, 5)))


def _lists(starts: pa.Array, values: np.ndarray, kind: pa.DataType, missing: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(starts, pa.array(values, kind.value_type), type=kind, mask=pa.array(missing))


def _scattered(values: np.ndarray, rows: np.ndarray, missing: np.ndarray) -> pa.Array:
    full = np.zeros(len(missing))
    full[rows] = values
    return pa.array(full, mask=missing)
