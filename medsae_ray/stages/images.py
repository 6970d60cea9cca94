"""Stage `images`: the radiographs of a run's phantom datasets, drawn by the run itself."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, NamedTuple

import pyarrow as pa
from PIL import Image

from medsae_ray.cluster.demands import pool_demands
from medsae_ray.config import Pool, Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.phantom import PhantomDataset
from medsae_ray.core.datasets.phantom_volumes import PhantomVolumesDataset
from medsae_ray.core.datasets.rows import Rows, label_names
from medsae_ray.core.phantom import LABELS, METADATA, TRAINING_SEEDS, Hospital, Study, patient
from medsae_ray.core.phantom.render import render
from medsae_ray.errors import RecipeError
from medsae_ray.names import by_name
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage

PATIENTS_PER_SHARD = 64
DRAWERS = Pool(actors=2, cpus=0.5)
"""The pool for drawing, which is single-threaded and has no model to hold in memory."""


class PatientShard(NamedTuple):
    """The patients of one shard."""

    dataset: PhantomDataset
    numbers: range
    folder: str
    """The prefix of the names of image files, which keeps two datasets apart."""

    def studies(self) -> list[Study]:
        """Make up the studies of the shard's patients."""
        hospital = by_name(Hospital, self.dataset)
        return [study for number in self.numbers for study in patient(self.dataset.seed, number, hospital)]


def hospitals(recipe: Recipe) -> list[PhantomDataset]:
    """Return the run's phantom datasets."""
    return [source for source in recipe.what.sources if isinstance(source, PhantomDataset)]


def patient_shards(datasets: list[PhantomDataset]) -> list[PatientShard]:
    """Map each shard to its patients, dataset after dataset."""
    starts = [(d, start) for d in datasets for start in range(0, d.patients, PATIENTS_PER_SHARD)]
    return [
        PatientShard(
            d, range(start, min(start + PATIENTS_PER_SHARD, d.patients)), f"{d.name}/" if len(datasets) > 1 else ""
        )
        for d, start in starts
    ]


@dataclass(frozen=True)
class DrawWork:
    """The drawing of the radiographs of a group of phantom patients, as PNG files with a list."""

    store: Store
    patient_shards: list[PatientShard]
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {shard: len(ward.studies()) for shard, ward in enumerate(self.patient_shards)})

    def load(self) -> None:
        """Load nothing: no model is needed."""

    def prepare(self, shard: int) -> pa.Table:
        """Return the shard's number as a table: there is nothing to read."""
        return pa.table({"ward": [shard]})

    def compute(self, model: None, prepared: pa.Table) -> pa.Table:
        """Draw and write the shard's radiographs: rows of the phantom schema."""
        ward = self.patient_shards[prepared["ward"][0].as_py()]
        rows = [self._draw(ward.folder, study) for study in ward.studies()]
        return pa.Table.from_pylist(rows, schema=phantom_schema())

    def _draw(self, folder: str, study: Study) -> dict[str, Any]:
        stream = BytesIO()
        Image.fromarray(render(study)).save(stream, format="PNG")
        uri = f"{folder}{study.image_id}.png"
        self.store.write(uri, stream.getvalue())
        labels = {f"y_{label}": study.labels[label] for label in LABELS}
        extra = {f"m_{column}": value for column, value in study.metadata().items()}
        return {"image_id": study.image_id, "patient_id": study.patient_id, "uri": uri, **labels, **extra}


def phantom_schema() -> pa.Schema:
    """Return the columns of the manifest that drawing fills: ids, uri, labels and metadata."""
    keep = ("image_id", "patient_id", "uri")
    return pa.schema([f for f in schema.manifest(LABELS, METADATA) if f.name in keep or f.name[:2] in ("y_", "m_")])


def phantom_rows(images: Artifact, recipe: Recipe, dataset: PhantomDataset) -> Rows:
    """Return the drawn rows of one of the run's phantom datasets."""
    shards = [shard for shard, ward in enumerate(patient_shards(hospitals(recipe))) if ward.dataset == dataset]
    table = pa.concat_tables([images.part(shard) for shard in shards]).replace_schema_metadata(None)
    return Rows(
        dataset=dataset.name,
        image_id=table["image_id"].to_pylist(),
        patient_id=table["patient_id"].to_pylist(),
        uri=[f"{images.name}/{uri}" for uri in table["uri"].to_pylist()],
        labels={label: table[f"y_{label}"].combine_chunks() for label in label_names(table.schema)},
        metadata={column: table[f"m_{column}"].combine_chunks() for column in METADATA},
    )


def refuse_training_seeds(datasets: Iterable[PhantomDataset | PhantomVolumesDataset]) -> None:
    """Raise RecipeError for patients that the shipped models were trained on."""
    for dataset in datasets:
        if dataset.seed in TRAINING_SEEDS:
            raise RecipeError(
                f"the seed of dataset {dataset.name} is {dataset.seed}; the shipped models were trained on patients of "
                f"seeds {TRAINING_SEEDS.start} to {TRAINING_SEEDS.stop - 1}, take another"
            )


def _draw(run: Run, draft: Draft) -> Made:
    datasets = hospitals(run.recipe)
    refuse_training_seeds(datasets)
    return run.map(DrawWork(draft.store, patient_shards(datasets)), draft, phantom_schema(), DRAWERS)


def _what(run: Run) -> dict[str, Any]:
    found = hospitals(run.recipe)
    return found[0].chosen() if len(found) == 1 else {"datasets": [d.chosen() | {"name": d.name} for d in found]}


IMAGES = Stage(
    "images",
    1,
    lambda recipe: (),
    _what,
    _draw,
    demands=lambda recipe: pool_demands("images", DRAWERS),
    lacks=lambda recipe: None if hospitals(recipe) else "a dataset of kind phantom, whose images are drawn",
)
