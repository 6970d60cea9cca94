"""Stages `fingerprints` and `duplicates`: images that several datasets hold, found by perceptual hashes."""

from dataclasses import asdict
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.config import Pool, Recipe
from medsae_ray.core.analysis.near_duplicates import ImageHashes, ImageHashWork, duplicates
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.artifacts.metrics import DuplicatesMetrics
from medsae_ray.core.images.reader import Reading
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.manifest import image_store, one_dataset


def _fingerprints(run: Run, draft: Draft) -> Made:
    reading, pool = Reading.of(run.recipe.what.images), run.recipe.how.embed
    work = ImageHashWork(draft.parents["manifest"], image_store(run), reading, pool.readers)
    return run.map(work, draft, schema.fingerprints(), _readers(run.recipe))


def _readers(recipe: Recipe) -> Pool:
    """Return the pool: readers compute the fingerprints, so the actors that write them need few CPUs."""
    pool = recipe.how.embed
    return Pool(actors=pool.actors, cpus=0.5, reader_cpus=pool.reader_cpus, retries=pool.retries)


def _duplicates(run: Run, draft: Draft) -> Made:
    manifest = draft.parents["manifest"].table(["image_id", "patient_id", "dataset", "split"])
    prints = draft.parents["fingerprints"].table()
    names, distance = [source.name for source in run.recipe.what.sources], run.recipe.what.replication.distance
    rows_of = {name: np.flatnonzero((column(manifest, "dataset") == name) & _ok(prints)) for name in names}
    found: list[dict[str, Any]] = []
    counts = {}
    for a, b in combinations(names, 2):
        pairs = duplicates(_prints(prints, rows_of[a]), _prints(prints, rows_of[b]), distance)
        sides = (rows_of[a][pairs[:, 0]], rows_of[b][pairs[:, 1]])
        found += _pairs(manifest, *sides, pairs[:, 2])
        counts[f"{a} and {b}"] = len(pairs)
    table = pa.Table.from_pylist(found, schema=schema.duplicates())
    across = sum(row["split_a"] != row["split_b"] for row in found)
    receipt = draft.writer(schema.duplicates()).write(0, table, table.num_rows)
    return Made([receipt], DuplicatesMetrics(pairs=counts, in_different_splits=across, distance=distance))


def _ok(prints: pa.Table) -> np.ndarray:
    ok: np.ndarray = prints["coarse"].is_valid().to_numpy(zero_copy_only=False)
    return ok


def _prints(prints: pa.Table, rows: np.ndarray) -> ImageHashes:
    chosen = prints.take(pa.array(rows))
    detail = np.frombuffer(b"".join(chosen["detail"].to_pylist()), np.uint8)
    return ImageHashes(chosen["coarse"].to_numpy(), detail.reshape(len(rows), 32))


def _pairs(manifest: pa.Table, rows_a: np.ndarray, rows_b: np.ndarray, distance: np.ndarray) -> list[dict[str, Any]]:
    sides = []
    for side, rows in (("a", rows_a), ("b", rows_b)):
        chosen = manifest.select(["dataset", "image_id", "split"]).take(pa.array(rows)).to_pylist()
        sides.append([{f"{key}_{side}": value for key, value in row.items()} for row in chosen])
    return [a | b | {"distance": d} for a, b, d in zip(*sides, distance.tolist(), strict=True)]


FINGERPRINTS = Stage(
    "fingerprints",
    3,
    lambda recipe: ("manifest",),
    lambda run: asdict(run.recipe.what.images),
    _fingerprints,
    demands=lambda recipe: pool_demands("fingerprints", _readers(recipe)),
    lacks=one_dataset,
)
DUPLICATES = Stage(
    "duplicates",
    1,
    lambda recipe: ("manifest", "fingerprints"),
    lambda run: run.recipe.what.replication.model_dump(include={"distance"}),
    _duplicates,
    lacks=one_dataset,
)
