"""The rows that training draws its batches from: in memory, or in a file that is read batch by batch.

A global batch is a random draw from all rows, the same for any number of workers, so rows are gathered from all over
the file. The kernel caches the pages that were read, once for all processes of the machine.

Legend: N rows, B rows of a batch, D embedding dimension.
"""

import os
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from torch import Tensor

from medsae_ray.errors import ArtifactError

T = TypeVar("T")
U = TypeVar("U")
CPU = torch.device("cpu")


@dataclass(frozen=True)
class EmbeddingTable:
    """A table of raw embeddings, float16 or float32. Both kinds give the same numbers to the last bit."""

    x_ND: Tensor
    """The rows, or pages of a file with them. Such pages come into memory when they are touched and leave it when it is
    needed: read them in blocks and never write to them."""
    file: BinaryIO | None = None
    """The open file; None for a table in memory."""

    @classmethod
    def of(cls, rows: "Tensor | EmbeddingTable") -> "EmbeddingTable":
        """Return a table; a tensor becomes one in memory."""
        return cls(rows) if isinstance(rows, Tensor) else rows

    @classmethod
    def open(cls, path: Path) -> "EmbeddingTable":
        """Open the rows of a .npy file, which must not change. Raises ArtifactError if it holds none."""
        try:
            x_ND = np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise ArtifactError(f"{path} is not a whole .npy file ({error}); delete it and run again") from error
        if x_ND.ndim != 2 or x_ND.dtype not in (np.float16, np.float32):
            raise ArtifactError(f"{path} holds {x_ND.dtype} {x_ND.shape}; rows x D of float16 or float32 are wanted")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it warns that nobody may write here, and nobody does
            return cls(torch.from_numpy(x_ND), path.open("rb"))

    def on(self, device: torch.device) -> "EmbeddingTable":
        """Move rows in memory to the device for good; those of a file are sent batch by batch."""
        return self if self.file else EmbeddingTable(self.x_ND.to(device))

    def share(self, rank: int, world: int, device: torch.device) -> Tensor:
        """Return every `world`-th row from `rank` on, and move only these to the device; those of a file stay."""
        mine_ND = self.x_ND[rank::world]
        return mine_ND if self.file else mine_ND.to(device)

    def batches(self, indices: Iterable[Tensor], device: torch.device) -> Iterator[Tensor]:
        """Yield the `rows` of each index. A GPU does not wait for those of a file: they are read while it works on the
        batch before, and copied from pinned memory."""
        if self.file is None or device.type != "cuda":
            yield from (self.rows(index_B, device) for index_B in indices)
            return
        for x_BD in ahead(lambda index_B: self.rows(index_B, CPU).pin_memory(), indices):
            yield x_BD.to(device, non_blocking=True)

    def rows(self, index_B: Tensor, device: torch.device) -> Tensor:
        """Return some rows, in any order, float32 [B, D]."""
        if self.file:
            self._ask(self.file.fileno(), index_B)
        return self.x_ND[index_B.to(self.x_ND.device)].to(device, torch.float32)

    def _ask(self, file: int, index_B: Tensor) -> None:
        """Let the kernel read all rows of a batch at once. Otherwise it reads one after the other as they are touched,
        each with useless neighbours. Cached rows cost one system call each."""
        if not hasattr(os, "posix_fadvise"):
            return
        width = self.x_ND.shape[1] * self.x_ND.element_size()
        start = os.fstat(file).st_size - len(self.x_ND) * width
        for row in index_B.tolist():
            os.posix_fadvise(file, start + row * width, width, os.POSIX_FADV_WILLNEED)


def ahead(read: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield `read` of each item, in order; the next one is read by a thread while the caller uses the last."""
    with ThreadPoolExecutor(1, "ahead") as reader:
        coming: Future[U] | None = None
        for item in items:
            last, coming = coming, reader.submit(read, item)
            if last is not None:
                yield last.result()
        if coming is not None:
            yield coming.result()


def write_table(path: Path, blocks: Iterable[np.ndarray], d_in: int) -> int:
    """Write blocks of rows [n, D] as one .npy file in float32 and return N. It appears whole, by rename."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    rows = 0
    try:
        with temporary.open("wb") as stream:
            _write_header(stream, 0, d_in)
            for x_ND in blocks:
                stream.write(np.ascontiguousarray(x_ND, dtype="<f4").data)
                rows += len(x_ND)
            stream.seek(0)
            _write_header(stream, rows, d_in)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return rows


def _write_header(stream: BinaryIO, rows: int, d_in: int) -> None:
    """Write a header of the same length for any number of rows: NumPy leaves room for the first axis to grow."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, d_in)}
    np.lib.format.write_array_header_1_0(stream, header)
