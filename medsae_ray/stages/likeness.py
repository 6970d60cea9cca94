"""Stage `likeness`: how far every image's embedding lies from those of the run, in Ray tasks over groups of shards."""

from collections.abc import Iterator
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.cluster.demands import task_demand
from medsae_ray.config import Recipe
from medsae_ray.core.analysis.drawn import drawn
from medsae_ray.core.analysis.likeness import Estimator, Reference, to_file, unlike_share
from medsae_ray.core.analysis.likeness_work import DistanceWork, Fit, FitWork
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.columns import column, nullable_column, readable
from medsae_ray.core.artifacts.likeness import LikenessMetrics, UnlikeShare
from medsae_ray.core.artifacts.likeness import rows as likeness_rows
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.features import group_sums

REFERENCES = 2000
"""The most images of the split sae that others are compared with one by one."""
FAR = 2.0
"""The factor on the expected share of unlike images above which the test patients are another population."""


class _Images(NamedTuple):
    """The images of the manifest."""

    image_N: np.ndarray
    shard_N: np.ndarray
    patient_N: np.ndarray
    split_N: np.ndarray
    dataset_N: np.ndarray

    @classmethod
    def of(cls, manifest: Artifact) -> "_Images":
        table = manifest.table(["image_id", "shard", "patient_id", "split", "dataset"])
        return cls(*(column(table, name) for name in table.column_names))


def _make(run: Run, draft: Draft) -> Made:
    embeddings, level = draft.parents["embeddings"], run.recipe.what.likeness.level
    images, ok_N = _Images.of(draft.parents["manifest"]), readable(draft.parents["embeddings"])
    training_N, naming_N, testing_N = (ok_N & (images.split_N == split) for split in SPLITS)
    datasets, dataset_N = np.unique(images.dataset_N.astype(str), return_inverse=True)
    reference_N = drawn(images.image_N, training_N, REFERENCES, run.recipe.what.likeness.seed)
    fit = _fit(run, draft, FitWork(embeddings, images.shard_N, training_N, reference_N, dataset_N, len(datasets)))
    estimator = Estimator.of(*fit)
    distance_N = (
        _distances(run, draft, DistanceWork(embeddings, estimator)) if estimator else np.full(len(ok_N), np.nan)
    )
    known_N = naming_N & np.isfinite(distance_N)
    reference = Reference.of(distance_N[known_N], images.patient_N[known_N])
    threshold = reference.threshold(level)

    def unlike(chosen_N: np.ndarray) -> UnlikeShare:
        return unlike_share(distance_N[chosen_N], images.patient_N[chosen_N], threshold, run.recipe.what.features.level)

    metrics = LikenessMetrics(
        level=level,
        threshold=threshold,
        fitted=int(fit.scatter.count_K.sum()),
        reference=reference.patients,
        detection=unlike(testing_N),
        shrinkage=fit.scatter.covariance().shrinkage,
    )
    if len(datasets) > 1:
        metrics["by_dataset"] = {str(name): unlike(testing_N & (images.dataset_N == name)) for name in datasets}
    table = pa.table([images.image_N, nullable_column(distance_N)], schema=likeness_rows())
    files = [draft.writer(table.schema).write(0, table, table.num_rows)]
    if estimator:
        files.append(draft.write_file("estimator", ".safetensors", to_file(estimator, reference)))
    return Made(files, metrics)


def _fit(run: Run, draft: Draft, work: FitWork) -> Fit:
    return reduce(Fit.merge, run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups", "summed"))


def _distances(run: Run, draft: Draft, work: DistanceWork) -> np.ndarray:
    found = run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups", "measured")
    return np.concatenate(list(found))


def _warnings(run: Run, artifact: Artifact) -> Iterator[RunWarning]:
    metrics = metrics_of(artifact, LikenessMetrics)
    level, found = metrics["level"], metrics["detection"]
    if metrics["threshold"] is None:
        yield RunWarning(
            "likeness_unknown",
            f"{metrics['reference']:,} patients of the split naming cannot say which distance {level:.0%} of new "
            "patients keep to, so no image is flagged as unlike the run: use more patients, or a lower "
            "what.likeness.level",
            metrics["reference"],
        )
    elif found["low"] is not None and found["low"] > FAR * (1 - level):
        yield RunWarning(
            "test_unlike",
            f"{found['share']:.1%} of {found['patients']:,} test patients' images are unlike the run's, where "
            f"{1 - level:.0%} are expected: these patients come from elsewhere, and figures on them say so",
            found["share"],
        )


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return ("manifest", "embeddings")


def _what(run: Run) -> dict[str, Any]:
    return run.recipe.what.likeness.model_dump() | {"interval": run.recipe.what.features.level}


LIKENESS = Stage(
    "likeness", 1, _parents, _what, _make, warnings=_warnings, demands=lambda recipe: (task_demand("likeness"),)
)
