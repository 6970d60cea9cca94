"""Stages of a run over several datasets: features of each, what replicates, and images that several of them hold."""

from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.cluster.demands import pool_demands, task_demand
from medsae_ray.config import Pool, Recipe
from medsae_ray.core.analysis.near_duplicates import FingerprintWork, Prints, duplicates
from medsae_ray.core.analysis.partial_sums import column
from medsae_ray.core.analysis.replication import Correlations, Replication, Rules, replicate
from medsae_ray.core.analysis.replication_table import best_pairs, pair_table
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.images.reader import Reading
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.datasets import image_store
from medsae_ray.stages.features import features_parents, features_what, labels_of, measure


def _dataset_features(run: Run, draft: Draft) -> Made:
    """Part d holds the features as dataset d of the record's `order` sees them, with the features table's columns."""
    labels, dataset_N = labels_of(run, draft), column(draft.parents["manifest"].table(["dataset"]), "dataset")
    files, metrics, order = [], {}, [source.name for source in run.recipe.what.sources]
    for number, name in enumerate(order):
        found = measure(run, draft, labels.within(dataset_N == name), name)
        files.append(draft.writer(found.table.schema).write(number, found.table, found.table.num_rows))
        metrics[name] = found.metrics
    known = draft.parents["manifest"].record.metrics["labels"]
    return Made(files, {"labels": known, "order": order, "datasets": metrics})


def _replication(run: Run, draft: Draft) -> Made:
    features, rules = draft.parents["dataset_features"], run.recipe.what.replication
    names, labels = features.record.metrics["order"], features.record.metrics["labels"]
    level = run.recipe.what.features.level
    found = correlations(features, level)
    results = list(replicate(found, Rules(rules.q, rules.min_r, rules.keep, level)))
    table = pair_table(found, results, names, labels)
    metrics = {
        "datasets": names,
        "pairs": {names[result.source]: _counts(result) for result in results},
        "findings": best_pairs(found, results, names, labels),
    }
    return Made([draft.writer(schema.replication()).write(0, table, table.num_rows)], metrics)


def correlations(features: Artifact, level: float) -> Correlations:
    """Of the SAE's features, dataset by dataset, in the record's `order`: its other keys are sorted."""
    metrics = features.record.metrics
    tables = [features.part(part.shard, ["space", "r"]) for part in features.parts]
    r_DFL = [np.array(t.filter(pc.equal(t["space"], "sae"))["r"].to_pylist(), dtype=np.float64) for t in tables]
    n_DL = [metrics["datasets"][name]["discovery_patients"] for name in metrics["order"]]
    return Correlations.of(np.stack(r_DFL), np.array(n_DL, dtype=np.int64), level)


def _counts(result: Replication) -> dict[str, int]:
    selected, replicated, untested = (
        int(pairs.sum()) for pairs in (result.selected_FL, result.replicated(), result.untested())
    )
    return {"selected": selected, "replicated": replicated, "untested": untested}


def _fingerprints(run: Run, draft: Draft) -> Made:
    reading, pool = Reading.of(run.recipe.what.images), run.recipe.how.embed
    work = FingerprintWork(draft.parents["manifest"], image_store(run), reading, pool.readers)
    return run.map(work, draft, schema.fingerprints(), _readers(run.recipe))


def _readers(recipe: Recipe) -> Pool:
    """Readers make the fingerprints, so the actors that write them take little."""
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
    return Made([receipt], {"pairs": counts, "in_different_splits": across, "distance": distance})


def _ok(prints: pa.Table) -> np.ndarray:
    return prints["coarse"].is_valid().to_numpy(zero_copy_only=False)


def _prints(prints: pa.Table, rows: np.ndarray) -> Prints:
    chosen = prints.take(pa.array(rows))
    detail = np.frombuffer(b"".join(chosen["detail"].to_pylist()), np.uint8)
    return Prints(chosen["coarse"].to_numpy(), detail.reshape(len(rows), 32))


def _pairs(manifest: pa.Table, rows_a: np.ndarray, rows_b: np.ndarray, distance: np.ndarray) -> list[dict[str, Any]]:
    sides = []
    for side, rows in (("a", rows_a), ("b", rows_b)):
        chosen = manifest.select(["dataset", "image_id", "split"]).take(pa.array(rows)).to_pylist()
        sides.append([{f"{key}_{side}": value for key, value in row.items()} for row in chosen])
    return [a | b | {"distance": d} for a, b, d in zip(*sides, distance.tolist(), strict=True)]


def _replication_what(run: Run) -> dict[str, Any]:
    return run.recipe.what.replication.model_dump(exclude={"distance"}) | {"level": run.recipe.what.features.level}


def _dataset_what(run: Run) -> dict[str, Any]:
    return features_what(run) | {"datasets": [source.name for source in run.recipe.what.sources]}


def _of_manifest(recipe: Recipe) -> tuple[str, ...]:
    return ("manifest",)


DATASET_FEATURES = Stage(
    "dataset_features",
    2,
    features_parents,
    _dataset_what,
    _dataset_features,
    demands=lambda recipe: (task_demand("dataset_features"),),
)
REPLICATION = Stage("replication", 2, lambda recipe: ("dataset_features",), _replication_what, _replication)
FINGERPRINTS = Stage(
    "fingerprints",
    3,
    _of_manifest,
    lambda run: run.recipe.what.images.model_dump(),
    _fingerprints,
    demands=lambda recipe: pool_demands("fingerprints", _readers(recipe)),
)
DUPLICATES = Stage(
    "duplicates",
    1,
    lambda recipe: ("manifest", "fingerprints"),
    lambda run: run.recipe.what.replication.model_dump(include={"distance"}),
    _duplicates,
)
SEVERAL = (DATASET_FEATURES, REPLICATION, FINGERPRINTS, DUPLICATES)
"""Stages that only a run over several datasets has."""
