"""Stage `manifest`: from datasets to rows with patients, labels and splits."""

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medsae_ray.config import GB, Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft, Receipt
from medsae_ray.core.artifacts.metrics import ManifestMetrics, metrics_of
from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.datasets import Dataset
from medsae_ray.core.datasets.combine import combine
from medsae_ray.core.datasets.phantom import PhantomDataset
from medsae_ray.core.datasets.phantom_volumes import PhantomVolumesDataset
from medsae_ray.core.datasets.privacy import find_key, hash_ids, key_check
from medsae_ray.core.datasets.rows import Rows, never_absent, to_manifest
from medsae_ray.core.datasets.splits import audit, hold_out
from medsae_ray.core.datasets.totalsegmentator import TotalSegmentatorDataset
from medsae_ray.core.images.cache import Cached
from medsae_ray.core.images.sources import Folders, ImageSource
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.doubts import of_manifest
from medsae_ray.stages.images import hospitals, phantom_rows
from medsae_ray.stages.organs import organ_rows, segmented
from medsae_ray.stages.volumes import cohorts, volume_rows


def _what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    chosen: dict[str, Any] = {"split": what.split.model_dump(), "shard_rows": what.shard_rows}
    if what.hashed:
        chosen["privacy"] = {"hashed": what.hashed, "key_check": key_check(_key(run))}
    if what.datasets is not None:
        several = [source.identity(run.recipe.paths_of(source)) | {"name": source.name} for source in what.sources]
        return chosen | {"datasets": several, "labels": what.labels}
    (source,) = what.sources
    if isinstance(source, PhantomDataset):  # its parent, the drawn images, has the rest
        return chosen | ({"name": source.name} if source.name != PhantomDataset.name else {})
    if isinstance(source, PhantomVolumesDataset):
        return chosen | {"dataset": source.cutting()}
    return chosen | source.identity(run.recipe.paths_of(source))


def _key(run: Run) -> bytes:
    chosen = run.recipe.how.id_key
    return find_key(run.root, chosen.file, chosen.variable)


def _rows(run: Run, draft: Draft, source: Dataset) -> Rows:
    if isinstance(source, PhantomDataset):
        return phantom_rows(draft.parents["images"], run.recipe, source)
    if isinstance(source, PhantomVolumesDataset):
        return volume_rows(draft.parents["volumes"], run.recipe, source)
    if isinstance(source, TotalSegmentatorDataset):
        return organ_rows(run.artifact("organs"), run.recipe, source)
    return source.rows(run.recipe.paths_of(source))


def _manifest(run: Run, draft: Draft) -> Made:
    what = run.recipe.what
    found = [_rows(run, draft, source) for source in what.sources]
    rows = found[0] if what.dataset else combine(found, what.labels)
    shares = what.split.model_dump(include=set(schema.SPLITS))
    manifest = to_manifest(rows, shares, what.split.salt, what.shard_rows)
    if what.split.held_out_by and what.split.held_out:
        manifest = hold_out(manifest, what.split.held_out_by, what.split.held_out, shares, what.split.salt)
    if what.hashed:
        manifest = hash_ids(manifest, _key(run), what.hashed)
    writer = draft.writer(manifest.schema)
    starts = range(0, manifest.num_rows, what.shard_rows)
    parts = [manifest.slice(start, what.shard_rows) for start in starts]
    counted = run.track(enumerate(parts), draft.stage, len(parts), step="written")
    files = [writer.write(shard, part, part.num_rows) for shard, part in counted]
    metrics = ManifestMetrics(audit=audit(manifest), labels=list(rows.labels), patient_column=rows.patients_known)
    if rows.notes:
        metrics["notes"] = rows.notes
    if segmented(run.recipe):
        metrics["organs"] = run.artifact("organs").name
    if doubtful := {rows.dataset: labels for rows in found if (labels := never_absent(rows))}:
        metrics["never_absent"] = doubtful
    return Made([*files, _audit_file(draft, files)], metrics)


def _audit_file(draft: Draft, files: list[Receipt]) -> Receipt:
    """Write audit-<hash>.json: patients, images and overlap of the splits, counted in the written parts."""
    columns = ["patient_id", "split"]
    parts = [pq.read_table(pa.BufferReader(draft.store.read(file.name)), columns=columns) for file in files]
    parts = [part.replace_schema_metadata(None) for part in parts]
    return draft.write_file("audit", ".json", json.dumps(audit(pa.concat_tables(parts)), indent=1).encode())


def _parents(recipe: Recipe) -> tuple[str, ...]:
    return (*(("images",) if hospitals(recipe) else ()), *(("volumes",) if cohorts(recipe) else ()))


def _needs(recipe: Recipe) -> tuple[str, ...]:
    return ("organs",) if segmented(recipe) else ()


def _warnings(run: Run, artifact: Artifact) -> Iterator[RunWarning]:
    yield from of_manifest(run, artifact)
    ignored = {source.name for source in run.recipe.what.sources if source.uncertain == "ignore"}
    for dataset, labels in metrics_of(artifact, ManifestMetrics).get("never_absent", {}).items():
        for label, count in labels.items() if dataset in ignored else ():
            yield RunWarning(
                "uncertain_without_absent",
                f"label {label!r} of {dataset} is -1 (uncertain, left out) in {count:,} rows and 0 (absent) in none: "
                "if -1 means absent there, set uncertain: zero",
                count,
            )


MANIFEST = Stage("manifest", 3, _parents, _what, _manifest, _needs, _warnings)


def image_store(run: Run) -> ImageSource:
    """Return the source that the manifest's relative image paths start from, behind the cache of slow stores if the
    recipe has one."""
    what, cache = run.recipe.what, run.recipe.how.cache
    images: ImageSource = Folders({source.name: _folder(run, source) for source in what.sources})
    if what.dataset:
        images = _folder(run, what.dataset)
    return Cached(images, cache.folder, int(cache.gb * GB)) if cache else images


def image_folder(run: Run, source: Dataset) -> tuple[Store, str]:
    """Return the folder that a dataset's relative image paths start from, and its key in the recipe."""
    paths, folder = run.recipe.paths_of(source), _folder(run, source)
    key = "how.paths.images" if run.recipe.what.dataset else f"how.paths.datasets.{source.name}.images"
    return folder, f"{key} is {paths.images}" if paths.images else f"{key} is not set, so paths start at {folder.uri}"


def _folder(run: Run, source: Dataset) -> Store:
    if source.drawn:
        return run.root
    paths = run.recipe.paths_of(source)
    return Store(paths.images) if paths.images else split_uri(str(paths.table))[0]


def one_dataset(recipe: Recipe) -> str | None:
    """Return why a stage on one dataset cannot be part of the run; None if the recipe has one dataset."""
    return None if recipe.what.datasets else "what.datasets, which lists several"
