"""Images -> embeddings: the work of the `embeddings` stage on one shard."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, with_notes
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.encoders.base import Encoder, EncoderOptions
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.core.images.notes import notes_of
from medsae_ray.core.images.reader import Reading, map_images
from medsae_ray.core.images.sources import ImageSource
from medsae_ray.errors import ImageError


class Embedder(NamedTuple):
    """An encoder, with the choice of pooled or patch embeddings."""

    encoder: Encoder
    layout: Layout

    @classmethod
    def of(cls, encoder: Encoder, patches: bool) -> Self:
        """Wrap an encoder. Raises EncoderError if `patches` are asked for and the encoder has none."""
        if not patches:
            return cls(encoder, Layout(encoder.dim))
        none = encoder.embed_tokens(np.empty((0, *encoder.preprocess.shape), np.uint8))
        return cls(encoder, Layout(none.x.shape[2], none.grid))

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embed pixels, given as for `Encoder.embed`, as float32 [N, T, D]."""
        if self.layout.grid is None:
            return self.encoder.embed(pixels)[:, None]
        return self.encoder.embed_tokens(pixels).x


@dataclass(frozen=True)
class EmbedWork:
    """The work on a shard: read its images, bring them to the encoder's input grid, and embed them."""

    manifest: Artifact
    images: ImageSource
    """The source that relative image paths start from."""
    encoder: EncoderOptions
    weights: str
    reading: Reading
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 64
    readers: int = 4
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {part.shard: part.rows for part in self.manifest.parts})

    def load(self) -> Embedder:
        """Load the encoder onto the device."""
        encoder = self.encoder.load(self._local(), device=self.device, threads=self.threads)
        return Embedder.of(encoder, self.encoder.patches)

    def prepare(self, shard: int) -> pa.Table:
        """Return columns image_id, pixels (fixed-size bytes, null if the image cannot be used), reason, notes."""
        preprocess = self.encoder.preprocess(self._local())
        rows = self.manifest.part(shard, ["image_id", "uri"])
        grid = partial(_grid, preprocess)
        grids = map_images(self.reading, self.images, rows["uri"].to_pylist(), grid, self.readers)
        width = int(np.prod(preprocess.shape))
        pixels, reasons = (
            pa.array([grid.pixels for grid in grids], pa.binary(width)),
            pa.array([grid.reason for grid in grids], pa.string()),
        )
        notes = pa.array([grid.notes for grid in grids], pa.list_(pa.string()))
        return pa.table({"image_id": rows["image_id"], "pixels": pixels, "reason": reasons, "notes": notes})

    def compute(self, model: Embedder, prepared: pa.Table) -> pa.Table:
        """Embed the usable images as rows of the embeddings schema. Embeddings with NaN or infinity get ok = false,
        reason not_finite."""
        ok = prepared["pixels"].is_valid().to_numpy(zero_copy_only=False)
        layout, shape = model.layout, model.encoder.preprocess.shape
        x_NTD = np.zeros((prepared.num_rows, layout.tokens, layout.dim), dtype=np.float32)
        for rows, pixels in _batches(prepared["pixels"], np.flatnonzero(ok), self.batch_size, shape):
            x_NTD[rows] = model.embed(pixels)
        finite = np.asarray(np.isfinite(x_NTD).all(axis=(1, 2)))
        reasons = prepared["reason"].to_pylist()
        reasons = [r if known else "not_finite" for r, known in zip(reasons, finite.tolist(), strict=True)]
        ok &= finite
        x_NTD[~ok] = 0
        x = pa.FixedSizeListArray.from_arrays(pa.array(x_NTD.ravel()), type=layout.field.type, mask=pa.array(~ok))
        columns = [prepared["image_id"], x, pa.array(ok), pa.array(reasons, pa.string())]
        noted = pc.list_flatten(prepared["notes"].filter(pa.array(ok))).value_counts().to_pylist()
        embedded = pa.Table.from_arrays(columns, schema=schema.embeddings(*layout))
        return with_notes(embedded, {row["values"]: row["counts"] for row in noted})

    def _local(self) -> str:
        return self.encoder.local(self.weights)


class _Grid(NamedTuple):
    pixels: bytes | None
    reason: str | None
    notes: tuple[str, ...] = ()


def _grid(preprocess: Preprocess, found: Image.Image | ImageError) -> _Grid:
    if isinstance(found, ImageError):
        return _Grid(None, found.reason)
    try:
        return _Grid(preprocess(found).tobytes(), None, notes_of(found))
    except ImageError as error:
        return _Grid(None, error.reason)


def _batches(
    pixels: pa.ChunkedArray, rows: np.ndarray, size: int, shape: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield full batches of the usable rows: (row numbers, uint8 [B, *shape])."""
    column = pixels.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    grid = np.frombuffer(column.buffers()[1], dtype=np.uint8) if len(column) else np.empty(0, np.uint8)
    grid = grid.reshape(-1, *shape)[column.offset : column.offset + len(column)]
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        yield batch, grid[batch]
