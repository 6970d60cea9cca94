"""Stage `monosemanticity`: how few concepts a unit stands for, in Ray tasks over groups of shards."""

from typing import Any

import pyarrow as pa
import torch

from medsae_ray.cluster.demands import task_demand
from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.columns import nan_to_null, readable
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.monosemanticity.chance import Judge
from medsae_ray.core.monosemanticity.measured import measured_space
from medsae_ray.core.monosemanticity.sums import SPACES, Images, MonosemanticityWork, Sums
from medsae_ray.core.sae.checkpoint import sae_from_bytes
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.untrained import untrained
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.embeddings import SECOND_EMBEDDINGS
from medsae_ray.stages.features import features_parents, features_what, group_sums, labels_of
from medsae_ray.stages.sae_table import sample_rows

SAMPLE = 4096
"""The most training rows behind the start of the untrained SAE."""


def untrained_sae(draft: Draft) -> SAE:
    """Return the SAE as its training started, from a sample of the training rows if they are many."""
    sae = draft.parents["sae"]
    trained = sae_from_bytes(sae.file("weights"), sae.file("config"), sae.store.uri)
    rows_ND = sample_rows(draft.parents["embeddings"], draft.parents["manifest"], "sae", SAMPLE)
    return untrained(trained, torch.from_numpy(rows_ND))


def _make(run: Run, draft: Draft) -> Made:
    rules, features = run.recipe.what.monosemanticity, run.recipe.what.features
    labels = labels_of(run, draft)
    numbers = Images.of(labels)
    work = MonosemanticityWork(
        embeddings=draft.parents["embeddings"],
        activations=draft.parents["activations"],
        labels=labels,
        numbers=numbers,
        untrained=untrained_sae(draft),
        images=rules.images,
        permutations=features.permutations,
        seed=features.seed,
        judge=draft.parents.get(SECOND_EMBEDDINGS.name),
    )
    total: Sums | None = None
    for sums in run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups"):
        total = sums if total is None else total.merge(sums)
    assert total is not None, "an artifact has at least one part"
    names = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    judge = Judge.of(labels, readable(draft.parents["embeddings"]), numbers, rules.draws, rules.seed)
    null, subsets = judge.coherence_null(), judge.subsets(rules.images)
    found = {space: measured_space(space, getattr(total, space), judge, null, names) for space in SPACES}
    metrics = MonosemanticityMetrics(
        images=rules.images,
        labels=judge.labels,
        coherence_null=nan_to_null(null),
        coherence_null_subsets=nan_to_null(float(subsets.mean())),
        coherence_null_sd=nan_to_null(float(subsets.std())),
        similarity_null=nan_to_null(found["sae"].similarity_null),
        spaces={space: measured.figures for space, measured in found.items()},
    )
    if rules.encoder:
        metrics["similarity_by"] = rules.encoder.kind
    table = pa.concat_tables(measured.table for measured in found.values())
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], metrics)


def _what(run: Run) -> dict[str, Any]:
    named = ("permutations", "seed", "weights", "uncertain", "blank", "held_out")
    shared = {key: value for key, value in features_what(run).items() if key in named}
    return {"features": shared, **run.recipe.what.monosemanticity.model_dump(exclude={"encoder"})}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    """Return the parents of `features`, and the judge's embeddings if the recipe has one."""
    judge = (SECOND_EMBEDDINGS.name,) if recipe.what.monosemanticity.encoder else ()
    return (*features_parents(recipe), *judge)


MONOSEMANTICITY = Stage(
    "monosemanticity",
    1,
    _parents,
    _what,
    _make,
    demands=lambda recipe: (task_demand("monosemanticity"),),
)
