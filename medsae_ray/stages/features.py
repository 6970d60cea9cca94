"""Stage `features`: statistics of every unit, in Ray tasks over groups of shards."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray

from medsae_ray.cluster.demands import task_demand
from medsae_ray.config import Recipe
from medsae_ray.core.analysis.columns import deciding_columns
from medsae_ray.core.analysis.feature_table import to_json, unit_statistics
from medsae_ray.core.analysis.findings import disagree, headed, notable
from medsae_ray.core.analysis.partial_sums import FeatureWork, GroupSums, Labels
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.columns import nan_to_null, readable
from medsae_ray.core.artifacts.metrics import (
    FeaturesMetrics,
    ManifestMetrics,
    MeasuredMetrics,
    SaeMetrics,
    SaeQuality,
    StoredFinding,
    metrics_of,
)
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.runtime.in_flight import in_flight
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.runtime.tries import COMPUTING, Tries
from medsae_ray.stages.feature_copies import copied, feature_warnings

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class GroupWork(Protocol[T_co]):
    """A computation over groups of shards."""

    def groups(self) -> list[list[int]]:
        """Return the shards of each group."""
        ...

    def compute(self, shards: Sequence[int]) -> T_co:
        """Compute one group's result."""
        ...


@ray.remote(num_cpus=1, max_retries=-1)
def _group(tries: Tries, work: Any, shards: list[int]) -> Any:
    tries.begin(_piece(shards), COMPUTING)
    return work.compute(shards)


def _piece(shards: Sequence[int]) -> str:
    return f"shards {shards[0]} to {shards[-1]}"


def group_sums(run: Run, work: GroupWork[T]) -> Iterator[T]:
    """Yield the result of every group, in order, with at most twice as many tasks in flight as the cluster has CPUs.
    Results lost with a node are computed again; a group that ends its workers is tried again how.encode.retries
    times."""
    groups = work.groups()
    if run.recipe.how.engine == "loop":
        yield from (work.compute(shards) for shards in groups)
        return
    run.connect()
    shared = ray.put(work)
    ahead = max(2, 2 * int(ray.cluster_resources().get("CPU", 1)))
    with Tries(run.recipe.how.encode.retries).kept() as tries:
        running = [_group.remote(tries, shared, shards) for shards in groups[:ahead]]
        with in_flight(running):
            for done, shards in enumerate(groups):
                yield ray.get(running[0])
                running.pop(0)
                tries.end(_piece(shards), COMPUTING)  # only here, as the transfer takes memory too
                if done + ahead < len(groups):
                    running.append(_group.remote(tries, shared, groups[done + ahead]))


class Measured(NamedTuple):
    """The statistics of a set of images: of the SAE's features, of raw dimensions, and of the SAE."""

    table: pa.Table
    """The rows of schema.features: features, then dimensions."""
    metrics: MeasuredMetrics


def labels_of(run: Run, draft: Draft) -> Labels:
    """Return the labels of all images that have an embedding."""
    what = run.recipe.what
    usable = readable(draft.parents["embeddings"])
    labels = Labels.of(draft.parents["manifest"].table(), what.uncertain, what.blank, usable)
    labels = replace(labels, by_patient=what.features.weights == "patients")
    return labels.after_choice() if what.selects else labels


def measure(run: Run, draft: Draft, labels: Labels, step: str) -> Measured:
    """Compute statistics over the images of `labels`, from embeddings and activations; `step` names these images."""
    rules = run.recipe.what.features
    work = FeatureWork(
        embeddings=draft.parents["embeddings"],
        activations=draft.parents["activations"],
        labels=labels,
        width=metrics_of(draft.parents["sae"], SaeMetrics)["config"]["width"],
        top_images=rules.top_images,
        permutations=rules.permutations,
        seed=rules.seed,
    )
    total: GroupSums | None = None
    for sums in run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups", step):
        total = sums if total is None else total.merge(sums)
    assert total is not None, "an artifact has at least one part"
    names = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    sae, raw = (unit_statistics(s, getattr(total, s), labels, names, rules.level) for s in ("sae", "raw"))
    metrics = MeasuredMetrics(
        labels=names,
        discovery_patients=labels.discovery_patients().tolist(),
        sae=_quality(total),
        entropy={"sae": sae.entropy, "raw": raw.entropy},
        findings=to_json(sae.findings),
        absences=to_json(sae.absences),
        raw_findings=to_json(raw.findings),
        raw_absences=to_json(raw.absences),
    )
    return Measured(pa.concat_tables([sae.table, raw.table]), metrics)


def _quality(total: GroupSums) -> SaeQuality:
    quality, active = total.quality, total.sae.units.n_active_F
    return {
        "r2": nan_to_null(1 - quality.sq_error / quality.sq_norm) if quality.sq_norm else None,
        "fvu": nan_to_null(quality.sq_error / quality.sq_norm) if quality.sq_norm else None,
        "l0": quality.active / quality.rows if quality.rows else None,
        "dead": float((active == 0).mean()),
        "width": len(active),
        "alive": int((active > 0).sum()),
    }


def _features(run: Run, draft: Draft) -> Made:
    labels = labels_of(run, draft)
    table, found = measure(run, draft, labels, "all images")
    groups = copied(draft.parents["activations"], labels.discovery_N, found["sae"]["width"])
    columns = deciding(draft.parents["manifest"], labels.y_NL)
    metrics = FeaturesMetrics(**found, copies=groups, deciding_columns=columns)
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], metrics)


def deciding(manifest: Artifact, y_NL: np.ndarray) -> dict[str, list[str]]:
    """Map each metadata column to the labels that it decides, over all images of the manifest."""
    names = [name for name in manifest.schema.names if name.startswith(METADATA)]
    table = manifest.table([*names, "patient_id"])
    columns = {name.removeprefix(METADATA): table[name] for name in names}
    patients = len(pc.unique(table["patient_id"]))
    return deciding_columns(columns, y_NL, patients, metrics_of(manifest, ManifestMetrics)["labels"])


def _warnings(run: Run, artifact: Artifact) -> Iterator[RunWarning]:
    metrics = metrics_of(artifact, FeaturesMetrics)
    yield from feature_warnings(metrics["sae"]["width"], metrics["sae"]["alive"], metrics["copies"])
    for name, labels in metrics["deciding_columns"].items():
        said = f"metadata column {name} decides {', '.join(labels)}: it is the label in other words"
        yield RunWarning("column_decides_label", f"{said}; shortcuts by it are not reported", name)
    present = {f["label"]: f["r"] for f in metrics["findings"]}
    shown = [f for f in metrics["absences"] if notable(present.get(f["label"]), f["r"])]
    apart = [finding for finding in (*metrics["findings"], *shown) if disagree(finding)]
    if apart:
        said = "; ".join(map(_apart, apart))
        yield RunWarning("datasets_disagree", f"AUROC differs between datasets: {said}", len(apart))


def _apart(finding: StoredFinding) -> str:
    """Format one finding, pooled and by dataset."""
    own = (f"{a['auc']:.2f} in {name}" for name, a in finding["by_dataset"].items() if a["auc"] is not None)
    return f"{headed(finding['label'], finding['r'])} {finding['auroc']:.2f} in all, {', '.join(own)}"


def features_what(run: Run) -> dict[str, Any]:
    """Return the settings that the statistics depend on, as part of an artifact's identity."""
    what = run.recipe.what
    weights = {"weights"} if what.features.weights == "images" else set()  # newer than existing artifacts
    chosen = {"held_out": "detection"} if what.selects else {}
    return what.features.model_dump(exclude=weights) | {"uncertain": what.uncertain, "blank": what.blank} | chosen


def features_parents(recipe: Recipe) -> tuple[str, ...]:
    """Return the stages that the statistics are computed from."""
    return ("manifest", "embeddings", "sae", "activations")


FEATURES = Stage(
    "features",
    3,
    features_parents,
    features_what,
    _features,
    warnings=_warnings,
    demands=lambda recipe: (task_demand("features"),),
)
