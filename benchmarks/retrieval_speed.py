"""Time of fingerprint queries over many shards of activations, two processes, and whether the answers are exact.

    python benchmarks/retrieval_speed.py FOLDER [--images 1000000]

FOLDER gets the activations, in parts as a run writes them. Each process reads every second group of parts and never
holds more than a group.
"""

import argparse
import json
import resource
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import reduce
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import sparse

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.columns import activation_matrix
from medsae_ray.core.retrieval.fingerprints import Fingerprints
from medsae_ray.core.retrieval.nearest import Nearest
from medsae_ray.core.retrieval.search import Rows, search

WIDTH, L0, PART, GROUP, QUERIES, PLACES = 8192, 32, 512, 64, 1000, 10
SIZES = (1, 2, 3, 5, 10, 20, 50, 100)
CHECKED = 20


def made(part: int, rows: int) -> sparse.csr_array:
    """Activations of features whose frequency falls with the root of their rank; one image in twenty has 100 active
    features, enough for the longest fingerprint, and the others 28, so that it is 32 on average."""
    rng = np.random.default_rng(part)
    odds = 1 / np.sqrt(np.arange(1, WIDTH + 1))
    counts = np.where(rng.random(rows) < 0.05, 100, 28)
    drawn = np.split(rng.choice(WIDTH, size=2 * counts.sum(), p=odds / odds.sum()), np.cumsum(2 * counts)[:-1])
    chosen = [np.unique(features) for features in drawn]
    chosen = [np.sort(rng.permutation(c)[:count]) for c, count in zip(chosen, counts, strict=True)]
    indptr = np.concatenate([[0], np.cumsum([len(c) for c in chosen])])
    values = rng.gamma(2, 1, indptr[-1]).astype(np.float32)
    return sparse.csr_array((values, np.concatenate(chosen), indptr), shape=(rows, WIDTH))


def write(job: tuple[Path, int, int]) -> None:
    """Write one part."""
    folder, part, rows = job
    z = made(part, rows)
    nothing = pa.nulls(rows, pa.float64())
    columns = [
        pa.array([f"i{part * PART + row}" for row in range(rows)]),
        pa.ListArray.from_arrays(pa.array(z.indptr, pa.int32()), pa.array(z.indices, pa.int32())),
        pa.ListArray.from_arrays(pa.array(z.indptr, pa.int32()), pa.array(z.data)),
        nothing,
        nothing,
    ]
    kind = schema.activations()
    table = pa.table(
        {name: column.cast(kind.field(name).type) for name, column in zip(kind.names, columns, strict=True)}
    )
    pq.write_table(table, folder / f"part-{part:05d}.parquet", compression="zstd")


def read(folder: Path, parts: Sequence[int]) -> tuple[sparse.csr_array, Rows]:
    """Return a group's activations; two images in a row are of one patient."""
    tables = [pq.read_table(folder / f"part-{part:05d}.parquet", columns=["feature", "value"]) for part in parts]
    rows = np.arange(sum(table.num_rows for table in tables)) + parts[0] * PART
    return activation_matrix(pa.concat_tables(tables), WIDTH), Rows(rows, rows // 2)


def share(job: tuple[Path, Fingerprints, list[list[int]]]) -> tuple[Nearest, int, float]:
    """Search some groups, one after the other; return the lists, the peak memory and the CPU time of the process."""
    folder, prints, groups = job
    nearest = Nearest.empty(len(prints) * len(SIZES), PLACES)
    for parts in groups:
        z, rows = read(folder, parts)
        search(prints, z, np.ones(WIDTH), rows, nearest)
    used = resource.getrusage(resource.RUSAGE_SELF)
    return nearest, used.ru_maxrss, used.ru_utime + used.ru_stime


def plainly(z: sparse.csr_array, query: int, k: int) -> np.ndarray:
    """The best similarities by their definition, from a dense copy of the k columns."""
    own = z[[query]].toarray()[0].astype(np.float64)
    chosen = np.lexsort((np.arange(WIDTH), -own))[:k]
    x = z[:, np.sort(chosen)].toarray().astype(np.float64)
    q = own[np.sort(chosen)]
    norm = np.linalg.norm(x, axis=1) * np.linalg.norm(q)
    similarity = (
        1 / (1 + np.abs(x[:, 0] - q[0])) if k == 1 else np.divide(x @ q, norm, out=np.zeros(len(x)), where=norm > 0)
    )
    similarity[query // 2 * 2 : query // 2 * 2 + 2] = -1
    pairs = np.append(similarity, -1.0)[: 2 * ((len(similarity) + 1) // 2)].reshape(-1, 2)
    return np.sort(pairs.max(axis=1))[::-1][:PLACES]


def main() -> None:
    """Make the activations unless they are there, search them, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1_000_000)
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    parts = [(asked.folder, part, min(PART, asked.images - part * PART)) for part in range(-(-asked.images // PART))]
    with ProcessPoolExecutor(2) as pool:
        list(
            pool.map(
                write, (job for job in parts if not (job[0] / f"part-{job[1]:05d}.parquet").exists()), chunksize=16
            )
        )
    first, rows = read(asked.folder, range(min(len(parts), 2 * GROUP)))
    long = np.flatnonzero(np.diff(first.indptr) >= max(SIZES))[:QUERIES]
    prints = Fingerprints.strongest(first[long], np.ones(WIDTH), rows.group_G[long], SIZES)
    groups = [list(range(start, min(start + GROUP, len(parts)))) for start in range(0, len(parts), GROUP)]
    del first
    start = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        found = list(pool.map(share, [(asked.folder, prints, groups[half::2]) for half in range(2)]))
    nearest = reduce(Nearest.merge, (lists for lists, _, _ in found))
    seconds = time.perf_counter() - start
    z, _ = read(asked.folder, range(len(parts)))
    off = 0.0
    for query in range(0, len(prints), max(1, len(prints) // CHECKED)):
        for size, k in enumerate(SIZES):
            own = nearest.similarity_LP[query * len(SIZES) + size]
            off = max(off, float(np.abs(own - plainly(z, int(long[query]), k)).max()))
    peak = [round(kib / 2**20, 2) for _, kib, _ in found]
    result = {"images": asked.images, "active": z.nnz / asked.images, "queries": len(prints), "sizes": len(SIZES)}
    print(
        json.dumps(
            result
            | {
                "seconds": round(seconds, 1),
                "cpu_s": round(sum(cpu for *_, cpu in found), 1),
                "peak_gib": peak,
                "largest_difference": off,
            }
        )
    )


if __name__ == "__main__":
    main()
