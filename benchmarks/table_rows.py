"""The cost of drawing a batch from a table in a file, compared with one in memory.

The time of a batch of random rows of a float32 table, in milliseconds (median of 10): from memory; from a file whose
pages are in memory; from one without pages in memory, like an endlessly large table; and from the last without asking
the kernel for all rows at once. Then the speed of one pass over the file. Linux. Prints JSON.
Usage: python benchmarks/table_rows.py [--rows 100000] [--d 512] [--batch 4096] [--folder /on/this/disk]
"""

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medsae_ray.core.sae.training_table import EmbeddingTable, write_table

CPU = torch.device("cpu")
REPEATS = 10


def milliseconds(draw: Callable[[Tensor], Tensor], order_N: Tensor, batch: int, before: Callable[[], None]) -> float:
    """The median of batches that share no row if there are enough rows."""
    found = []
    for number in range(REPEATS):
        index_B = order_N[torch.arange(number * batch, (number + 1) * batch) % len(order_N)]
        before()
        started = time.perf_counter()
        draw(index_B)
        found.append(1e3 * (time.perf_counter() - started))
    return round(statistics.median(found), 2)


def forget(path: Path) -> None:
    """Drop the file's pages from memory; those that a process has mapped stay."""
    with path.open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def measure(path: Path, options: argparse.Namespace) -> dict[str, float]:
    """Write a table and time batches from file and memory, in milliseconds."""
    rng = np.random.default_rng(0)
    step = min(options.rows, 10_000)
    started = time.perf_counter()
    blocks = (rng.random((step, options.d), dtype=np.float32) for _ in range(options.rows // step))
    rows = write_table(path, blocks, options.d)
    found = {"gigabytes": round(path.stat().st_size / 1e9, 2), "write_s": round(time.perf_counter() - started, 1)}
    order_N = torch.randperm(rows)

    def cold() -> None:
        forget(path)

    def afresh(index_B: Tensor) -> Tensor:
        return EmbeddingTable.open(path).rows(index_B, CPU)

    def one_by_one(index_B: Tensor) -> Tensor:
        return EmbeddingTable.open(path).x_ND[index_B]

    found["cold"] = milliseconds(afresh, order_N, options.batch, cold)
    found["cold_one_by_one"] = milliseconds(one_by_one, order_N, options.batch, cold)
    cold()
    started = time.perf_counter()
    for part in EmbeddingTable.open(path).x_ND.split(16_384):
        part.sum()
    found["pass_gb_per_s"] = round(path.stat().st_size / 1e9 / (time.perf_counter() - started), 2)
    table = EmbeddingTable.open(path)
    for name in ("warm_first", "warm"):  # the first time every page is entered into this process's tables
        found[name] = milliseconds(lambda index_B: table.rows(index_B, CPU), order_N, options.batch, lambda: None)
    held = EmbeddingTable(table.x_ND.clone())
    found["memory"] = milliseconds(lambda index_B: held.rows(index_B, CPU), order_N, options.batch, lambda: None)
    return found


def main() -> None:
    """Measure in a temporary folder and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--d", type=int, default=512)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--folder", help="on the disk in question")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        print(json.dumps(measure(Path(folder) / "rows.npy", options), indent=1))


if __name__ == "__main__":
    main()
