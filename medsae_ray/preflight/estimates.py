"""The estimates of a run from recipe and root: images, questions, bytes, and rates measured before."""

import gzip
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from medsae_ray.config import Judge, Recipe
from medsae_ray.core.artifacts.artifact import RECORD, Artifact, Record
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.metrics import ManifestMetrics, SaeMetrics, metrics_of
from medsae_ray.core.artifacts.name_metrics import AnswersMetrics, SamplesMetrics
from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.core.naming.controls import CONTROLS
from medsae_ray.core.naming.label_tasks import GROUPS
from medsae_ray.core.naming.prompts import OTHER_NAMES
from medsae_ray.core.naming.sampling import CHECK
from medsae_ray.core.phantom import LABELS
from medsae_ray.engine.session import naming_of
from medsae_ray.preflight.needs import ASKING
from medsae_ray.preflight.papers import paper_dimensions
from medsae_ray.stages.images import hospitals, patient_shards
from medsae_ray.stages.rankings import arms_of
from medsae_ray.stages.samples import DETECTION, NAMING

COUNTED_PATIENTS = 20_000
"""The most phantom patients whose images are counted one by one."""
READ_AT_ONCE = 1 << 22


class ImageCounts(NamedTuple):
    """The number of images of a run."""

    total: int | None
    exact: bool = False
    """False for an upper bound."""


class Rate(NamedTuple):
    """The amount that a stage did in a second in an earlier run below the same root."""

    per_second: float
    unit: str
    artifact: str


def images_of(recipe: Recipe, manifest: Artifact | None) -> ImageCounts:
    """Count the images of the manifest, or bound them by the datasets' tables."""
    if manifest:
        return ImageCounts(manifest.record.rows, True)
    phantoms = hospitals(recipe)
    if len(phantoms) == len(recipe.what.sources) and sum(d.patients for d in phantoms) <= COUNTED_PATIENTS:
        return ImageCounts(sum(len(ward.studies()) for ward in patient_shards(phantoms)), True)
    tables = [recipe.paths_of(s).table if s.row_per_image else None for s in recipe.what.sources]
    counts = [_lines(table) if table else None for table in tables]
    known = [count for count in counts if count is not None]
    return ImageCounts(sum(known)) if len(known) == len(counts) else ImageCounts(None)


def _lines(table: str) -> int | None:
    """Count the rows of a table, or the lines of CSV, an upper bound. None on an object store."""
    store, name = split_uri(table)
    if not store.is_local or not store.exists(name):
        return None
    if name.endswith(".parquet"):
        return int(pq.read_metadata(store.path(name)).num_rows)
    opened: Any = gzip.open if name.endswith(".gz") else open
    with opened(store.path(name), "rb") as stream:
        lines: int = sum(block.count(b"\n") for block in iter(lambda: stream.read(READ_AT_ONCE), b""))
    return max(0, lines)


def records_of(root: Store) -> dict[str, Record]:
    """Return the record of every finished artifact below a root."""
    found = {}
    for folder in root.folders():
        if root.exists(f"{folder}/{RECORD}"):
            try:
                found[folder] = Record.from_json(root.read(f"{folder}/{RECORD}"))
            except (ValueError, TypeError, KeyError):
                continue
    return found


def rate_of(stage: str, records: Mapping[str, Record]) -> Rate | None:
    """Return the newest measured rate of a stage; None without one."""
    own = [record for record in records.values() if record.stage == stage]
    rates = [(str(record.run.get("end", "")), _rate(record, records)) for record in own]
    return max(((end, rate) for end, rate in rates if rate), default=("", None))[1]


def _rate(record: Record, records: Mapping[str, Record]) -> Rate | None:
    seconds, parts = record.run.get("seconds", 0), sum(file.shard >= 0 for file in record.files)
    fresh = 1 - record.run.get("parts_reused", 0) / parts if parts else 1.0
    done, unit = _work(record, records)
    return Rate(done * fresh / seconds, unit, record.name) if seconds and done and fresh > 0 else None


def _work(record: Record, records: Mapping[str, Record]) -> tuple[int, str]:
    """Return the amount and unit that took the time: questions, features or images."""
    if record.stage == "names":
        return record.rows, "features"
    if record.stage in ASKING:
        return metrics_of(record, AnswersMetrics).get("asked", 0), "questions"
    return _images_behind(record, records), "images"


def _images_behind(record: Record, records: Mapping[str, Record]) -> int:
    if record.stage in ("images", "manifest"):
        return record.rows
    behind = (records[name] for name in record.parents.values() if name in records)
    return max((_images_behind(parent, records) for parent in behind), default=0)


class Questions(NamedTuple):
    """The upper bounds; None if the number of features is unknown."""

    names: int | None
    """The prompts for names."""
    of_stage: dict[str, int | None]
    """The questions about one image and one name, by stage."""


def questions_of(recipe: Recipe, artifacts: Mapping[str, Artifact | None]) -> Questions:
    """Return the most prompts to the model. Answers kept below the root, and questions that two stages share, are not
    subtracted."""
    naming = naming_of(recipe)
    named, tested, width = _features(recipe, artifacts)
    if named is None or tested is None or width is None:
        return Questions(None, dict.fromkeys(ASKING))
    design = naming.detection
    images = design.positives + design.negatives
    each = tested * images * (1 + max(CONTROLS, design.random_names))
    found = artifacts.get("manifest")
    labels = len(metrics_of(found, ManifestMetrics)["labels"]) if found else _labels(recipe)
    trivial = tested * images
    later = each + trivial + width
    answers = later + labels * design.pool
    checks = named * (1 + OTHER_NAMES) * (CHECK.positives + CHECK.negatives)
    of_stage: dict[str, int | None] = dict.fromkeys(ASKING, later)
    of_stage |= {"names": checks, "answers": answers, "rankings": _rankings(naming.judge, width, labels)}
    return Questions(named * naming.attempts, of_stage)


def _rankings(judge: Judge | None, width: int, labels: int) -> int:
    """Count the names and rankings of features, and the rankings of labels, in all arms."""
    if judge is None:
        return 0
    return len(arms_of(judge)) * (2 * min(judge.features, width) + GROUPS * labels)


def _labels(recipe: Recipe) -> int:
    """Count the labels of all datasets; as many as of chest radiographs if a recipe does not list them."""
    return sum(len(getattr(source, "labels", None) or LABELS) for source in recipe.what.sources)


def _features(recipe: Recipe, artifacts: Mapping[str, Artifact | None]) -> tuple[int | None, int | None, int | None]:
    """Return the numbers of features that are named, that are tested, and of all."""
    if samples := artifacts.get("samples"):
        metrics = metrics_of(samples, SamplesMetrics)
        width, lacking = metrics["width"], metrics["insufficient"]
        return width - len(lacking[NAMING]), width - len(lacking[DETECTION]), width
    sae = artifacts.get("sae")
    width = metrics_of(sae, SaeMetrics)["config"]["width"] if sae else recipe.what.sae.settings()["width"]
    return width, width, width


def bytes_of(stage: str, recipe: Recipe, images: int | None, root: Store, records: Mapping[str, Record]) -> int | None:
    """Estimate the bytes on the root's disk; None if unknown. A number takes 4 bytes, an active feature 8."""
    if images is None:
        return None
    if stage in ("embeddings", "random_embeddings") and (numbers := _numbers(recipe, root, records)):
        return images * numbers * 4
    settings = recipe.what.sae.settings()
    active = settings.get("k") or (settings.get("ks") or [None])[-1]
    if stage == "activations" and active and not recipe.what.encoder.patches:
        return int(images * active * 8)
    like = [record for record in records.values() if record.stage == stage and _images_behind(record, records)]
    if not like:
        return None
    newest = max(like, key=lambda record: str(record.run.get("end", "")))
    return round(images * sum(file.bytes for file in newest.files) / _images_behind(newest, records))


def _numbers(recipe: Recipe, root: Store, records: Mapping[str, Record]) -> int | None:
    """Return the length of one image's embedding: the same encoder's below the root, MedCLIP's, or a paper's."""
    for name, record in records.items():
        if record.stage == "embeddings" and record.what.get("encoder") == recipe.what.encoder.identity():
            layout = Layout.of(Artifact(root.child(name), record).schema)
            return layout.dim * layout.tokens
    if recipe.what.encoder.patches:
        return None
    return 512 if recipe.what.encoder.kind.startswith("medclip") else paper_dimensions(recipe)


def total(values: Iterator[int | float | None] | list[Any]) -> float | None:
    """Sum the known values; None without any."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None
