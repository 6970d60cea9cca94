"""Stage `volumes`: the CT and MRI scans of a run's phantom datasets, drawn by the run itself.

The artifact's folder has TotalSegmentator's layout, with a folder per dataset if there are several. The rows are those
of stage `organs`: they are read from the files that were written.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import pyarrow as pa

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.config import Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.organs import scan_rows
from medsae_ray.core.datasets.phantom_volumes import PhantomVolumesDataset
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.totalsegmentator import read_meta, segmentator_rows
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.core.phantom.volumes.people import meta_csv, person
from medsae_ray.core.phantom.volumes.scan import draw
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.images import DRAWERS, refuse_training_seeds

SCANS_PER_SHARD = 4
META = "meta.csv"


class PeopleShard(NamedTuple):
    """The patients of one shard."""

    dataset: PhantomVolumesDataset
    numbers: range
    folder: str
    """The prefix of the names of files, which keeps two datasets apart."""


def cohorts(recipe: Recipe) -> list[PhantomVolumesDataset]:
    """Return the run's datasets of phantom volumes."""
    return [source for source in recipe.what.sources if isinstance(source, PhantomVolumesDataset)]


def people_shards(datasets: list[PhantomVolumesDataset]) -> list[PeopleShard]:
    """Map each shard to its patients, dataset after dataset; patients are numbered from 1."""
    return [
        PeopleShard(
            d, range(start, min(start + SCANS_PER_SHARD, d.scans + 1)), f"{d.name}/" if len(datasets) > 1 else ""
        )
        for d in datasets
        for start in range(1, d.scans + 1, SCANS_PER_SHARD)
    ]


@dataclass(frozen=True)
class VolumesWork:
    """The drawing of the scans of a group of phantom patients, as NIfTI files with masks."""

    store: Store
    shards: list[PeopleShard]
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        counts = {shard: len(ward.numbers) * (1 + len(ORGANS)) for shard, ward in enumerate(self.shards)}
        object.__setattr__(self, "rows", counts)

    def load(self) -> None:
        """Load nothing: no model is needed."""

    def prepare(self, shard: int) -> pa.Table:
        """Return the shard's number as a table: there is nothing to read."""
        return pa.table({"ward": [shard]})

    def compute(self, model: None, prepared: pa.Table) -> pa.Table:
        """Draw and write the shard's scans, and read their masks: rows of the organs schema."""
        ward = self.shards[prepared["ward"][0].as_py()]
        rows = [row for number in ward.numbers for row in self._draw(ward, number)]
        return pa.Table.from_pylist(rows, schema=schema.organs())

    def _draw(self, ward: PeopleShard, number: int) -> Iterator[dict[str, Any]]:
        who = person(ward.dataset.seed, number)
        for name, data in draw(who).files():
            self.store.write(ward.folder + name, data)
        store = self.store.child(ward.folder.rstrip("/")) if ward.folder else self.store
        return scan_rows(store, f"{who.id}/{who.file}", ORGANS)


def volume_rows(volumes: Artifact, recipe: Recipe, dataset: PhantomVolumesDataset) -> Rows:
    """Return the slices of one of the run's datasets of phantom volumes."""
    shards = [(shard, ward) for shard, ward in enumerate(people_shards(cohorts(recipe))) if ward.dataset == dataset]
    about = read_meta(meta_csv(dataset.seed, dataset.scans), META)
    rows = segmentator_rows(dataset, (volumes.part(shard) for shard, _ in shards), {}, about)
    return replace(rows, uri=[f"{volumes.name}/{shards[0][1].folder}{uri}" for uri in rows.uri])


def _draw(run: Run, draft: Draft) -> Made:
    datasets = cohorts(run.recipe)
    refuse_training_seeds(datasets)
    wards = people_shards(datasets)
    for ward in (ward for ward in wards if ward.numbers.start == 1):
        draft.store.write(ward.folder + META, meta_csv(ward.dataset.seed, ward.dataset.scans))
    return run.map(VolumesWork(draft.store, wards), draft, schema.organs(), DRAWERS)


def _what(run: Run) -> dict[str, Any]:
    found = cohorts(run.recipe)
    return found[0].drawing() if len(found) == 1 else {"datasets": [d.drawing() | {"name": d.name} for d in found]}


VOLUMES = Stage(
    "volumes",
    1,
    lambda recipe: (),
    _what,
    _draw,
    demands=lambda recipe: pool_demands("volumes", DRAWERS),
    lacks=lambda recipe: None if cohorts(recipe) else "a dataset of kind phantom-volumes, whose scans are drawn",
)
