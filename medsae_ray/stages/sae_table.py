"""A split's embeddings as one table: in a worker's memory, or in a file that all workers of a node share. With patches,
every patch of an image is a row.

A file lies on the node's own disk, below `how.train.scratch`. The first worker that needs it makes it from the
embeddings' parts, with one part in memory at a time; the others wait and open the same file. Each user holds a shared
lock on it, which ends with the process in any case, and the last to leave deletes it. After a kill it stays for the
next attempt, or until another table is made.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from medsae_ray.config import GB, Train
from medsae_ray.core.artifacts.artifact import Artifact, Receipt
from medsae_ray.core.artifacts.layout import Layout, token_matrix
from medsae_ray.core.artifacts.locks import locked
from medsae_ray.core.artifacts.write_errors import writing
from medsae_ray.core.sae.training_table import EmbeddingTable, write_table
from medsae_ray.errors import DatasetError, MedsaeError

_PARTS = 32
"""The most parts of the embeddings that a sample is taken from."""


@contextmanager
def split_table(embeddings: Artifact, manifest: Artifact, split: str, how: Train) -> Iterator[EmbeddingTable]:
    """Open the embeddings [N, D] of a split's readable images, in shard order. DatasetError if there are none."""
    layout = Layout.of(embeddings.schema)
    d_in = layout.dim
    images = sum(int(np.count_nonzero(_chosen(manifest, part.shard, split))) for part in manifest.parts)
    blocks, most = _blocks(embeddings, embeddings.parts, manifest, split), images * layout.tokens
    if 4 * most * d_in <= how.memory_gb * GB:
        yield EmbeddingTable(_in_memory(blocks, most, d_in, split))
        return
    prints = [artifact.record.fingerprint[:12] for artifact in (embeddings, manifest)]
    path = scratch(how) / f"{'-'.join(prints)}-{split}.npy"
    table = _in_file(path, blocks, most, d_in, split)
    try:
        yield table
    finally:
        assert table.file is not None
        table.file.close()
        with locked(path.parent / "lock"):
            _delete_unused([path])


def sample_rows(embeddings: Artifact, manifest: Artifact, split: str, most: int) -> np.ndarray:
    """Return at most `most` of a split's embeddings in shard order [n, D], spread evenly over at most `_PARTS`
    parts, themselves spread evenly; only these parts are read."""
    layout, chosen, start = Layout.of(embeddings.schema), [], 0
    parts = embeddings.parts[:: -(-len(embeddings.parts) // _PARTS)]
    images = sum(int(np.count_nonzero(_chosen(manifest, part.shard, split))) for part in parts)
    step = max(1, -(-images * layout.tokens // most))
    for block in _blocks(embeddings, parts, manifest, split):
        chosen.append(block[-start % step :: step])
        start += len(block)
    return np.concatenate([np.empty((0, layout.dim), np.float32), *chosen])


def scratch(how: Train) -> Path:
    """Return the folder of this user's tables on this node."""
    folder = Path(how.scratch or tempfile.gettempdir()) / f"medsae-ray-{os.getuid()}"
    with writing(str(folder)):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise MedsaeError(f"{folder} belongs to another user; set how.train.scratch to a folder of your own")
    return folder


def _blocks(embeddings: Artifact, parts: Iterable[Receipt], manifest: Artifact, split: str) -> Iterator[np.ndarray]:
    for part in parts:
        x_NTD, rows = token_matrix(embeddings.part(part.shard))
        yield x_NTD[_chosen(manifest, part.shard, split)[rows]].reshape(-1, x_NTD.shape[2])


def _chosen(manifest: Artifact, shard: int, split: str) -> np.ndarray:
    """Return True for the shard's images that are in the split [n]."""
    return np.asarray(manifest.part(shard, ["split"])["split"].to_numpy(zero_copy_only=False) == split)


def _in_memory(blocks: Iterator[np.ndarray], most: int, d_in: int, split: str) -> torch.Tensor:
    """Collect all rows, of which there are at most `most`."""
    x_ND = np.empty((most, d_in), dtype=np.float32)
    rows = 0
    for block in blocks:
        x_ND[rows : rows + len(block)] = block
        rows += len(block)
    _check_rows(rows, split)
    return torch.from_numpy(x_ND[:rows])


def _in_file(path: Path, blocks: Iterator[np.ndarray], most: int, d_in: int, split: str) -> EmbeddingTable:
    """Open the table at `path`, made now if it does not exist, and locked against deletion."""
    with locked(path.parent / "lock"):
        if not path.exists():
            _delete_unused([*path.parent.glob("*.npy"), *path.parent.glob(".*.tmp")])
            _check_room(path.parent, 4 * most * d_in)
            with writing(str(path)):
                rows = write_table(path, blocks, d_in)
            if not rows:
                path.unlink()
            _check_rows(rows, split)
        table = EmbeddingTable.open(path)
        assert table.file is not None
        fcntl.flock(table.file, fcntl.LOCK_SH)
        return table


def _delete_unused(paths: Iterable[Path]) -> None:
    """Delete the files among `paths` that no process holds a lock on."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _check_room(folder: Path, wanted: int) -> None:
    free = shutil.disk_usage(folder).free
    if wanted > free:
        raise MedsaeError(
            f"{folder} has {free / GB:.1f} GB left, the table of embeddings takes {wanted / GB:.1f} GB; set "
            "how.train.scratch to a larger disk, or raise how.train.memory_gb to train from memory"
        )


def _check_rows(rows: int, split: str) -> None:
    if not rows:
        raise DatasetError(f"split {split!r} has no readable image; use more patients or another what.split")
