"""Warnings about the manifest and the embeddings, before anything is learned from them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import column, readable
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.metrics import Audit, EmbeddingsMetrics, ManifestMetrics, SplitCounts, metrics_of
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.datasets.rows import label_matrix, label_names
from medsae_ray.core.images.unreadable import counted
from medsae_ray.engine.session import naming_of
from medsae_ray.runtime.run import Run

NOT_OK_SHARE = 0.1
"""The share of unusable images from which a run warns."""
PATIENT_SHARE, PATIENT_IMAGES = 0.1, 20
"""The share of the discovery images, and the number of images, from which one patient is worth a warning."""
FEW = 20
"""The number of test patients with a label, and without it, below which its AUROC is unreliable."""
LISTED = 6
"""The most labels that one warning names."""
NOTES = {
    "exif_orientation": "{n:,} images are to be turned or mirrored by their EXIF, {done}",
    "more_pages": "{n:,} files hold further pages or frames, of which none was read",
    "transparency": "{n:,} images have transparent pixels, which were read as if they were not",
    "odd_number": "{n:,} DICOM images have a window or padding that is no number, which was left out",
}
"""The warnings for the notes of reading images (core/images/notes.py)."""


def of_manifest(run: Run, manifest: Artifact) -> Iterator[RunWarning]:
    """Warn about unknown, few or dominant patients and about missing labels."""
    what, metrics = run.recipe.what, metrics_of(manifest, ManifestMetrics)
    if not metrics["patient_column"]:
        yield RunWarning(
            "patients_unknown",
            "nothing says which images are of one patient, so each counts as a patient of its own; intervals are too "
            "narrow if a patient has several (what.dataset.patient names a table's column)",
        )
    for uids in _shared_uids(metrics.get("notes", {})):
        yield RunWarning(
            "shared_uids",
            f"{uids['files']:,} DICOM files with different pixels share {uids['uids']:,} SOP instance UIDs; they are "
            "kept apart",
            uids["files"],
        )
    yield from _of_one_patient(metrics["audit"], what.features.weights == "patients")
    if not metrics["labels"]:
        yield RunWarning(
            "no_labels", "the dataset has no labels: features are shown with their images, and nothing is tested"
        )
    else:
        yield from _of_labels(run.recipe, manifest)
    if what.naming:
        yield from _of_naming(run.recipe, metrics["audit"]["splits"])


def _shared_uids(notes: Any) -> list[dict[str, int]]:
    """Return the notes on shared UIDs of the dataset, or of each of several."""
    several = [notes, *notes.values()] if isinstance(notes, dict) else []
    return [found["shared_uids"] for found in several if isinstance(found, dict) and "shared_uids" in found]


def _of_one_patient(audit: Audit, weighted: bool) -> Iterator[RunWarning]:
    most = audit["images_per_patient"]["most_in_discovery"]
    images = sum(audit["splits"][name]["images"] for name in ("sae", "naming"))
    if weighted or most < PATIENT_IMAGES or most <= PATIENT_SHARE * images:
        return
    median = audit["images_per_patient"]["median"]
    yield RunWarning(
        "one_patient",
        f"one patient has {most:,} of the {images:,} images that units and labels are matched on ({most / images:.0%}; "
        f"the median patient has {median:g}); what.features.weights: patients lets each patient count once",
        most / images,
    )


def _of_labels(recipe: Recipe, manifest: Artifact) -> Iterator[RunWarning]:
    table = manifest.table()
    labels, y_NL = label_names(table.schema), label_matrix(table, recipe.what.uncertain, recipe.what.blank)
    never = [label for label, y_N in zip(labels, y_NL.T, strict=True) if (y_N == 1).any() and not (y_N == 0).any()]
    if never:
        yield RunWarning(
            "unmentioned_never_absent",
            f"{_listed(never)}: present or not mentioned, never absent, so nothing can be told apart; if blank means "
            "absent, say `blank: zero` in the dataset",
            len(never),
        )
    test_N = (column(table, "split") == "detection") & column(table, "index_image").astype(bool)
    counts = [(label, *_classes(y_N[test_N])) for label, y_N in zip(labels, y_NL.T, strict=True) if label not in never]
    few = [f"{label} {with_} with, {without} without" for label, with_, without in counts if min(with_, without) < FEW]
    if few:
        yield RunWarning(
            "few_in_test",
            f"fewer than {FEW} of {int(test_N.sum()):,} test patients with or without a label: {_listed(few, '; ')}",
            len(few),
        )


def _classes(y_N: np.ndarray) -> tuple[int, int]:
    return int((y_N == 1).sum()), int((y_N == 0).sum())


def _listed(items: list[str], between: str = ", ") -> str:
    more = len(items) - LISTED
    return between.join(items[:LISTED]) + (f"{between}and {more} more" if more > 0 else "")


def _of_naming(recipe: Recipe, splits: dict[str, SplitCounts]) -> Iterator[RunWarning]:
    naming = naming_of(recipe)
    naming_patients, test_patients = (splits[name]["patients"] for name in ("naming", "detection"))
    wanted, support = naming.positives + naming.contrasts, naming.detection.support
    if naming_patients < wanted:
        yield RunWarning(
            "naming_support",
            f"no feature can be named: it takes {wanted} patients of split naming (what.naming.positives + contrasts), "
            f"there are {naming_patients}",
            naming_patients,
        )
    if test_patients < 2 * support:
        yield RunWarning(
            "naming_support",
            f"no name can be tested: it takes {2 * support} patients of split detection (twice "
            f"what.naming.detection.support), there are {test_patients}",
            test_patients,
        )


def of_embeddings(run: Run, embeddings: Artifact) -> Iterator[RunWarning]:
    """Warn about missing and unusable images, and about too few to learn from."""
    rows, not_ok = embeddings.record.rows, embeddings.record.not_ok
    bad = sum(not_ok.values())
    if bad > NOT_OK_SHARE * rows:
        yield RunWarning(
            "images_not_ok",
            f"{counted(not_ok, rows)}; after mending them delete {embeddings.name} and run again",
            bad / rows,
        )
    yield from _of_notes(metrics_of(embeddings, EmbeddingsMetrics), run.recipe.what.images.orientation)
    layout = Layout.of(embeddings.schema)
    split = column(run.artifact("manifest").table(["split"]), "split")
    training = int((split[readable(embeddings)] == "sae").sum()) * layout.tokens
    if training < layout.dim:
        yield RunWarning(
            "small_training",
            f"{training:,} training {'patches' if layout.grid else 'images'} for {layout.dim:,} dimensions: an SAE can "
            "learn them by heart; judge it by R2 on new patients",
            training,
        )


def _of_notes(metrics: EmbeddingsMetrics, orientation: str) -> Iterator[RunWarning]:
    done = "and were left as they lie" if orientation == "stored" else "and were"
    for note, n in metrics["notes"].items():
        yield RunWarning(note, NOTES[note].format(n=n, done=done), n)
    if said := metrics.get("class_scores"):
        yield RunWarning("class_scores", said)
