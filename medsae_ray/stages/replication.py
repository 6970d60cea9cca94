"""Stages `dataset_features` and `replication`: each dataset's own statistics, and the findings that another one
confirms."""

from typing import Any

import numpy as np
import pyarrow.compute as pc

from medsae_ray.cluster.demands import task_demand
from medsae_ray.core.analysis.replication import Correlations, ReplicatedPairs, Rules, replicate
from medsae_ray.core.analysis.replication_table import best_pairs, pair_table
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft, Receipt
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.artifacts.metrics import (
    DatasetFeaturesMetrics,
    ManifestMetrics,
    MeasuredMetrics,
    PairCounts,
    ReplicationMetrics,
    metrics_of,
)
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.features import features_parents, features_what, labels_of, measure
from medsae_ray.stages.manifest import one_dataset


def _dataset_features(run: Run, draft: Draft) -> Made:
    """Write the features of dataset d of the record's `order` as part d, with the features table's columns."""
    labels, dataset_N = labels_of(run, draft), column(draft.parents["manifest"].table(["dataset"]), "dataset")
    order = [source.name for source in run.recipe.what.sources]
    files, datasets = list[Receipt](), dict[str, MeasuredMetrics]()
    for number, name in enumerate(order):
        found = measure(run, draft, labels.within(dataset_N == name), name)
        files.append(draft.writer(found.table.schema).write(number, found.table, found.table.num_rows))
        datasets[name] = found.metrics
    known = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    return Made(files, DatasetFeaturesMetrics(labels=known, order=order, datasets=datasets))


def _replication(run: Run, draft: Draft) -> Made:
    features, rules = draft.parents["dataset_features"], Rules(**_replication_what(run))
    measured = metrics_of(features, DatasetFeaturesMetrics)
    names, labels = measured["order"], measured["labels"]
    found = correlations(features, rules.level)
    results = list(replicate(found, rules))
    table = pair_table(found, results, names, labels)
    metrics = ReplicationMetrics(
        datasets=names,
        pairs={names[result.source]: _counts(result) for result in results},
        findings=best_pairs(found, results, names, labels),
    )
    return Made([draft.writer(schema.replication()).write(0, table, table.num_rows)], metrics)


def correlations(features: Artifact, level: float) -> Correlations:
    """Return the correlations of the SAE's features, dataset by dataset, in the record's `order`, as its other keys
    are sorted."""
    metrics = metrics_of(features, DatasetFeaturesMetrics)
    tables = [features.part(part.shard, ["space", "r"]) for part in features.parts]
    r_DFL = [np.array(t.filter(pc.equal(t["space"], "sae"))["r"].to_pylist(), dtype=np.float64) for t in tables]
    n_DL = [metrics["datasets"][name]["discovery_patients"] for name in metrics["order"]]
    return Correlations.of(np.stack(r_DFL), np.array(n_DL, dtype=np.int64), level)


def _counts(result: ReplicatedPairs) -> PairCounts:
    selected, replicated, untested = (
        int(pairs.sum()) for pairs in (result.selected_FL, result.replicated(), result.untested())
    )
    return {"selected": selected, "replicated": replicated, "untested": untested}


def _replication_what(run: Run) -> dict[str, Any]:
    return run.recipe.what.replication.model_dump(exclude={"distance"}) | {"level": run.recipe.what.features.level}


def _dataset_what(run: Run) -> dict[str, Any]:
    return features_what(run) | {"datasets": [source.name for source in run.recipe.what.sources]}


DATASET_FEATURES = Stage(
    "dataset_features",
    2,
    features_parents,
    _dataset_what,
    _dataset_features,
    demands=lambda recipe: (task_demand("dataset_features"),),
    lacks=one_dataset,
)
REPLICATION = Stage(
    "replication", 2, lambda recipe: ("dataset_features",), _replication_what, _replication, lacks=one_dataset
)
