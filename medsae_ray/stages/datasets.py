"""Stages `images` (phantoms only) and `manifest`: from a dataset to rows with patients, labels and splits."""

from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import pyarrow as pa
from PIL import Image

from medsae_ray.config import PhantomDataset, Pool, Recipe
from medsae_ray.core import schema
from medsae_ray.core.artifact import Artifact, Draft
from medsae_ray.core.datasets import READERS
from medsae_ray.core.datasets.rows import Rows, label_names, to_manifest
from medsae_ray.core.phantom import LABELS, METADATA, TRAINING_SEEDS, patient
from medsae_ray.core.splits import audit, hold_out
from medsae_ray.core.storage import Store, split_uri
from medsae_ray.errors import RecipeError
from medsae_ray.stages.run import Made, Run, Stage

PATIENTS_PER_SHARD = 64
DRAWERS = Pool(actors=2, cpus=0.5)
"""Drawing is single-threaded and has no model to hold in memory."""


@dataclass(frozen=True)
class DrawWork:
    """Draws the radiographs of a group of phantom patients as PNG files, and lists them."""

    store: Store
    seed: int
    patients: int
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        shards = range(-(-self.patients // PATIENTS_PER_SHARD))
        object.__setattr__(
            self, "rows", {s: sum(len(patient(self.seed, n)) for n in self._patients(s)) for s in shards}
        )

    def load(self) -> None:
        return None

    def prepare(self, shard: int) -> pa.Table:
        return pa.table({"patient": list(self._patients(shard))})

    def compute(self, model: None, prepared: pa.Table) -> pa.Table:
        rows = [self._draw(study) for n in prepared["patient"].to_pylist() for study in patient(self.seed, n)]
        return pa.Table.from_pylist(rows, schema=phantom_schema())

    def _patients(self, shard: int) -> range:
        return range(shard * PATIENTS_PER_SHARD, min((shard + 1) * PATIENTS_PER_SHARD, self.patients))

    def _draw(self, study: Any) -> dict[str, Any]:
        stream = BytesIO()
        Image.fromarray(study.render()).save(stream, format="PNG")
        uri = f"{study.image_id}.png"
        self.store.write(uri, stream.getvalue())
        labels = {f"y_{label}": study.labels[label] for label in LABELS}
        extra = {f"m_{column}": str(getattr(study, column)) for column in METADATA}
        return {"image_id": study.image_id, "patient_id": study.patient_id, "uri": uri, **labels, **extra}


def phantom_schema() -> pa.Schema:
    keep = ("image_id", "patient_id", "uri")
    return pa.schema([f for f in schema.manifest(LABELS, METADATA) if f.name in keep or f.name[:2] in ("y_", "m_")])


def _draw(run: Run, draft: Draft) -> Made:
    dataset = run.recipe.what.dataset
    assert isinstance(dataset, PhantomDataset)
    if dataset.seed in TRAINING_SEEDS:
        raise RecipeError(
            f"what.dataset.seed is {dataset.seed}; the shipped models were trained on patients of seeds "
            f"{TRAINING_SEEDS.start} to {TRAINING_SEEDS.stop - 1}, take another"
        )
    work = DrawWork(draft.store, dataset.seed, dataset.patients)
    return run.map(work, draft, phantom_schema(), DRAWERS, "cpus")


def _phantom_rows(images: Artifact) -> Rows:
    table = images.table()
    folder = images.name
    return Rows(
        dataset="phantom",
        image_id=table["image_id"].to_pylist(),
        patient_id=table["patient_id"].to_pylist(),
        uri=[f"{folder}/{uri}" for uri in table["uri"].to_pylist()],
        labels={label: table[f"y_{label}"].combine_chunks() for label in label_names(table.schema)},
        metadata={column: table[f"m_{column}"].combine_chunks() for column in METADATA},
    )


def _manifest_what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    chosen: dict[str, Any] = {"split": what.split.model_dump(), "shard_rows": what.shard_rows}
    if what.dataset.kind in READERS:
        # The policies for -1 and blank act in the statistics: the manifest keeps what was annotated.
        chosen["dataset"] = what.dataset.model_dump(exclude={"uncertain", "blank"})
        chosen |= READERS[what.dataset.kind].identity(what.dataset, run.recipe.how.paths)
    return chosen


def _manifest(run: Run, draft: Draft) -> Made:
    what = run.recipe.what
    if what.dataset.kind in READERS:
        rows = READERS[what.dataset.kind].rows(what.dataset, run.recipe.how.paths)
    else:
        rows = _phantom_rows(draft.parents["images"])
    shares = what.split.model_dump(include=set(schema.SPLITS))
    manifest = to_manifest(rows, shares, what.split.salt, what.shard_rows)
    if what.split.held_out_by and what.split.held_out:
        manifest = hold_out(manifest, what.split.held_out_by, what.split.held_out, shares, what.split.salt)
    writer = draft.writer(manifest.schema)
    starts = range(0, manifest.num_rows, what.shard_rows)
    parts = [manifest.slice(start, what.shard_rows) for start in starts]
    files = [writer.write(shard, part, part.num_rows) for shard, part in enumerate(parts)]
    return Made(files, _manifest_metrics(manifest, rows))


def _manifest_metrics(manifest: pa.Table, rows: Rows) -> dict[str, Any]:
    labels = {"labels": list(rows.labels), "patient_column": rows.patients_known}
    return {"audit": audit(manifest), **labels, **({"notes": rows.notes} if rows.notes else {})}


def _phantom_what(run: Run) -> dict[str, Any]:
    return run.recipe.what.dataset.model_dump(include={"kind", "patients", "seed"})


def _manifest_parents(recipe: Recipe) -> tuple[str, ...]:
    return ("images",) if isinstance(recipe.what.dataset, PhantomDataset) else ()


IMAGES = Stage("images", 1, lambda recipe: (), _phantom_what, _draw)
MANIFEST = Stage("manifest", 1, _manifest_parents, _manifest_what, _manifest)


def image_store(run: Run) -> Store:
    """The folder that the manifest's relative image paths start at."""
    paths = run.recipe.how.paths
    if isinstance(run.recipe.what.dataset, PhantomDataset):
        return run.root
    return Store(paths.images) if paths.images else split_uri(str(paths.table))[0]
