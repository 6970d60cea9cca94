"""The work of the `activations` stage on one shard: sparse activations from embeddings.

Legend: N images, B images of a batch, T tokens of an image (1 unless it has patches), D embedding dimension, M
features.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import torch

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.layout import Layout, token_matrix
from medsae_ray.core.sae.checkpoint import sae_from_bytes
from medsae_ray.core.sae.metrics import image_errors
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.sparse import sparse_rows

TOKENS = 4096
"""The most patches that are encoded at once, unless an image has more."""


def load_artifact_sae(sae: Artifact) -> SAE:
    """Load the SAE of an `sae` artifact."""
    return sae_from_bytes(sae.file("weights"), sae.file("config"), sae.store.uri).sae


def tokens_encoded(sae: SAE, x_BTD: np.ndarray, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Move raw embeddings to the device [B * T, D], and return them with their activations [B * T, M]."""
    x = torch.tensor(x_BTD, device=device).flatten(0, 1)
    return x, sae.encode(x)


@dataclass(frozen=True)
class EncodeWork:
    """The encoding of a shard's embeddings with a trained SAE."""

    embeddings: Artifact
    sae: Artifact
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 1024
    rows: dict[int, int] = field(init=False)
    layout: Layout = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {part.shard: part.rows for part in self.embeddings.parts})
        object.__setattr__(self, "layout", Layout.of(self.embeddings.schema))

    def load(self) -> SAE:
        """Load the SAE onto the device."""
        torch.set_num_threads(self.threads)
        return load_artifact_sae(self.sae).to(self.device).eval()

    def prepare(self, shard: int) -> pa.Table:
        """Read the embeddings of a shard."""
        return self.embeddings.part(shard)

    @torch.no_grad()
    def compute(self, model: SAE, prepared: pa.Table) -> pa.Table:
        """Encode embeddings in batches: rows of the activations schema, null for an image without an embedding."""
        x_NTD, ok = token_matrix(prepared)
        patches, size = self.layout.grid is not None, self.batch_size
        if patches:
            size = max(1, min(size, TOKENS // self.layout.tokens))
        found = _Encoded.join([self._encode(model, x_NTD[i : i + size]) for i in range(0, len(ok), size)])
        n = prepared.num_rows
        counts = np.zeros(n, dtype=np.int64)
        counts[ok] = found.counts
        missing = np.ones(n, dtype=bool)
        missing[ok] = False
        starts = pa.array(np.concatenate([[0], np.cumsum(counts)]).astype(np.int32))
        declared = schema.activations(patches)
        columns = [
            prepared["image_id"],
            _lists(starts, found.features, declared.field("feature").type, missing),
            _lists(starts, found.values, declared.field("value").type, missing),
            _scattered(found.sq_error, ok, missing),
            _scattered(found.sq_norm, ok, missing),
            *[_scattered(found.active, ok, missing)] * patches,
        ]
        return pa.Table.from_arrays(columns, schema=declared)

    def _encode(self, model: SAE, x_BTD: np.ndarray) -> "_Encoded":
        x, z = tokens_encoded(model, x_BTD, self.device)
        errors = image_errors(model, x, z)
        z_BTM = z.unflatten(0, x_BTD.shape[:2])
        rows = sparse_rows(z_BTM.amax(1))
        sq_error, sq_norm = (e.reshape(x_BTD.shape[:2]).sum(1).cpu().numpy() for e in errors)
        active = (z_BTM != 0).sum((1, 2)).cpu().numpy()
        return _Encoded(np.diff(rows.offsets), rows.indices, rows.values, sq_error, sq_norm, active)


class _Encoded(NamedTuple):
    """The encoding of some images."""

    counts: np.ndarray
    """The number of active features per image, on any of its tokens [B]."""
    features: np.ndarray
    """The indices of the active features, concatenated over images."""
    values: np.ndarray
    """The largest activation over the image's tokens, aligned with `features`."""
    sq_error: np.ndarray
    """The squared error of each image [B], summed over its tokens, as are the two below."""
    sq_norm: np.ndarray
    active: np.ndarray
    """The number of active features per token."""

    @classmethod
    def join(cls, batches: list[Self]) -> "_Encoded":
        kinds = (np.int64, np.int32, np.float32, np.float64, np.float64, np.int64)
        nothing = cls(*(np.empty(0, kind) for kind in kinds))
        return cls(*(np.concatenate(parts) for parts in zip(nothing, *batches, strict=True)))


def _lists(starts: pa.Array, values: np.ndarray, kind: pa.DataType, missing: np.ndarray) -> pa.Array:
    return pa.ListArray.from_arrays(starts, pa.array(values, kind.value_type), type=kind, mask=pa.array(missing))


def _scattered(values: np.ndarray, rows: np.ndarray, missing: np.ndarray) -> pa.Array:
    full = np.zeros(len(missing), values.dtype)
    full[rows] = values
    return pa.array(full, mask=missing)
