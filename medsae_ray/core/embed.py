"""Images -> embeddings: the work of the `embeddings` stage on one shard."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.core import schema
from medsae_ray.core.artifact import Artifact
from medsae_ray.core.encoders import encoder_preprocess, load_encoder
from medsae_ray.core.encoders.base import Encoder
from medsae_ray.core.images import Preprocess, read_image
from medsae_ray.core.storage import Images, local_copy, read_uri
from medsae_ray.errors import ImageError


@dataclass(frozen=True)
class EmbedWork:
    """Reads a shard's images, brings them to the encoder's input grid, and embeds them."""

    manifest: Artifact
    images: Images
    """Where relative image paths start."""
    encoder: str
    weights: str | None
    options: dict[str, Any]
    max_pixels: int
    high_bit: str
    device: str = "cpu"
    threads: int = 1
    batch_size: int = 64
    readers: int = 4
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {part.shard: part.rows for part in self.manifest.parts})

    def load(self) -> Encoder:
        weights = local_copy(self.weights) if self.weights else None
        return load_encoder(self.encoder, weights, device=self.device, threads=self.threads, **self.options)

    def prepare(self, shard: int) -> pa.Table:
        """Columns image_id, pixels (fixed-size bytes, null if the image cannot be used), reason."""
        preprocess = self._preprocess()
        rows = self.manifest.part(shard, ["image_id", "uri"])
        with ThreadPoolExecutor(self.readers) as pool:
            read = list(pool.map(lambda uri: self._pixels(preprocess, uri), rows["uri"].to_pylist()))
        width = int(np.prod(preprocess.shape))
        pixels = pa.array([p for p, _ in read], pa.binary(width))
        return pa.table(
            {"image_id": rows["image_id"], "pixels": pixels, "reason": pa.array([r for _, r in read], pa.string())}
        )

    def compute(self, model: Encoder, prepared: pa.Table) -> pa.Table:
        ok = prepared["pixels"].is_valid().to_numpy(zero_copy_only=False)
        x_ND = np.zeros((prepared.num_rows, model.dim), dtype=np.float32)
        for rows, pixels in _batches(prepared["pixels"], np.flatnonzero(ok), self.batch_size, model.preprocess.shape):
            x_ND[rows] = model.embed(pixels)
        finite = np.asarray(np.isfinite(x_ND).all(axis=1))
        reasons = prepared["reason"].to_pylist()
        reasons = [r if known else "not_finite" for r, known in zip(reasons, finite.tolist(), strict=True)]
        ok &= finite
        flat = pa.array(np.where(ok[:, None], x_ND, 0).ravel())
        kind = schema.embeddings(model.dim).field("x").type
        x = pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=pa.array(~ok))
        columns = [prepared["image_id"], x, pa.array(ok), pa.array(reasons, pa.string())]
        return pa.Table.from_arrays(columns, schema=schema.embeddings(model.dim))

    def _preprocess(self) -> Preprocess:
        weights = local_copy(self.weights) if self.weights else None
        return encoder_preprocess(self.encoder, weights, **self.options)

    def _pixels(self, preprocess: Preprocess, uri: str) -> tuple[bytes | None, str | None]:
        try:
            image = read_image(fetch(self.images, uri), max_pixels=self.max_pixels, high_bit=self.high_bit)
            return preprocess(image).tobytes(), None
        except ImageError as error:
            return None, error.reason


def fetch(images: Images, uri: str) -> bytes:
    """The bytes of one image. Raises ImageError for what is the image's fault, OSError for what is the store's."""
    try:
        return read_uri(images, uri)
    except FileNotFoundError as error:
        raise ImageError("missing", uri) from error
    except ValueError as error:
        raise ImageError("unreadable", str(error)) from error
    except OSError as error:
        # On a local disk the file itself is at fault. An object store that does not answer is no property of the
        # image: the shard fails, and the next run takes it up again.
        if not images.is_local:
            raise OSError(_nameless(str(error), uri)) from None
        raise ImageError("unreadable", str(error)) from error


def _nameless(text: str, uri: str) -> str:
    """An error's text without the image's place, which may hold a patient's identifier: this text goes into logs."""
    parts = uri.split("/")
    tails = ("/".join(parts[start:]) for start in range(len(parts)))
    tail = next((tail for tail in tails if tail and tail in text), None)
    return text.replace(tail, "(an image)") if tail else text


def _batches(
    pixels: pa.ChunkedArray, rows: np.ndarray, size: int, shape: tuple[int, ...]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Full batches of the usable rows: (row numbers, uint8 [B, *shape])."""
    column = pixels.combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    grid = np.frombuffer(column.buffers()[1], dtype=np.uint8) if len(column) else np.empty(0, np.uint8)
    grid = grid.reshape(-1, *shape)[column.offset : column.offset + len(column)]
    for start in range(0, len(rows), size):
        batch = rows[start : start + size]
        yield batch, grid[batch]
