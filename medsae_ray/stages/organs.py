"""Stage `organs`: the masks of a run's TotalSegmentator datasets, read over the cluster; the manifest joins them."""

from collections import Counter
from dataclasses import replace
from typing import Any

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.config import Pool, Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.metrics import OrgansMetrics, OrgansOfDataset, metrics_of
from medsae_ray.core.datasets.organs import OrganWork, ScanShard
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.totalsegmentator import (
    TotalSegmentatorDataset,
    files,
    listed,
    metadata,
    segmentator_rows,
)
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage

POOL = Pool(cpus=0.1, reader_cpus=0.9)
"""The pool for masks. Inflating takes one CPU per shard that is read; writing a part takes next to nothing."""


def segmented(recipe: Recipe) -> list[TotalSegmentatorDataset]:
    """Return the run's TotalSegmentator datasets."""
    return [source for source in recipe.what.sources if isinstance(source, TotalSegmentatorDataset)]


def organ_rows(organs: Artifact, recipe: Recipe, dataset: TotalSegmentatorDataset) -> Rows:
    """Return the slices of one of the run's TotalSegmentator datasets."""
    about = metrics_of(organs, OrgansMetrics)["datasets"][segmented(recipe).index(dataset)]
    parts = (organs.part(shard) for shard in range(*about["shards"]))
    return segmentator_rows(dataset, parts, about["passed_over"], metadata(recipe.paths_of(dataset)))


def _what(run: Run) -> dict[str, Any]:
    found = [{"files": files(run.recipe.paths_of(d)), "organs": d.organs} for d in segmented(run.recipe)]
    return found[0] if len(found) == 1 else {"datasets": found}


def _make(run: Run, draft: Draft) -> Made:
    wards: list[ScanShard] = []
    about: list[OrgansOfDataset] = []
    for dataset in segmented(run.recipe):
        skipped, start = Counter[str](), len(wards)
        wards += listed(dataset, run.recipe.paths_of(dataset), skipped)
        about.append({"shards": [start, len(wards)], "passed_over": dict(sorted(skipped.items()))})
    pool = POOL.model_copy(update={"retries": run.recipe.how.embed.retries})
    made = run.map(OrganWork(wards), draft, schema.organs(), pool)
    return replace(made, metrics=OrgansMetrics(datasets=about))


ORGANS = Stage(
    "organs",
    3,
    lambda recipe: (),
    _what,
    _make,
    demands=lambda recipe: pool_demands("organs", POOL),
    lacks=lambda recipe: None if segmented(recipe) else "a dataset of kind totalsegmentator, whose masks are read",
)
