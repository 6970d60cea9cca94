"""How good queries in words are where the encoder has no text half: precision of the first images on a phantom run.

For every planted finding its name, and the same in other words, is the query; images of detection patients are
retrieved, one of each patient. Usage: python benchmarks/lexical_queries.py ROOT [--recipe phantom] [--images 10]
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from medsae_ray.config import load_recipe
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.words.library import Library, Match
from medsae_ray.service.finished import library_of, open_run

OTHER_WORDS = {
    "Enlarged Cardiomediastinum": "wide mediastinum",
    "Cardiomegaly": "enlarged heart",
    "Lung Opacity": "white patches in the lungs",
    "Lung Lesion": "nodule",
    "Edema": "fluid overload with haze at the hila",
    "Consolidation": "dense airspace filling with air bronchograms",
    "Pneumonia": "infection",
    "Atelectasis": "collapse with a raised diaphragm",
    "Pneumothorax": "air around a collapsed lung",
    "Pleural Effusion": "fluid at the costophrenic angles",
    "Pleural Other": "pleural thickening or plaques",
    "Fracture": "broken ribs",
    "Support Devices": "tubes, lines and pacemaker",
}
SPLIT = "detection"
Find = Callable[[str, str], list[Match]]


class Truth(NamedTuple):
    """The labels of images, and how common each is among detection patients, by their first image."""

    y_of: dict[str, np.ndarray]
    labels: list[str]
    prevalence_L: np.ndarray


def truth_of(manifest: object) -> Truth:
    table, labels = manifest.table(), manifest.record.metrics["labels"]  # type: ignore[attr-defined]
    y_NL = label_matrix(table, "ignore", "ignore")
    tested_N = np.array(table["split"].to_pylist()) == SPLIT
    return Truth(
        dict(zip(table["image_id"].to_pylist(), y_NL, strict=True)), labels, np.nanmean(y_NL[tested_N], axis=0)
    )


def precision(library: Library, matches: list[Match], label: int, truth: Truth, images: int) -> float:
    """Share of the images that have the label; images that are missing count as wrong, unknown labels not at all."""
    found = library.shelf.strongest(matches, images, SPLIT)
    has = [truth.y_of[row["image_id"]][label] for row in found]
    known = [value for value in has if not np.isnan(value)]
    return sum(known) / (images - len(has) + len(known))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--recipe", default="phantom")
    parser.add_argument("--images", type=int, default=10)
    chosen = parser.parse_args()
    run = open_run(load_recipe(chosen.recipe), chosen.root)
    library, truth = library_of(run), truth_of(run.artifacts["manifest"])
    best_of = {row["label"]: row["feature"] for row in run.artifacts["features"].record.metrics["findings"]}
    finders: dict[str, Find] = {
        "name": lambda label, other: library.matches(label, 3),
        "name, 1 feature": lambda label, other: library.matches(label, 1),
        "other words": lambda label, other: library.matches(other, 3),
        "best feature": lambda label, other: [Match(best_of[label], 1.0, None)],
    }
    print("| finding | prevalence | " + " | ".join(finders) + " |\n|---|---|" + "---|" * len(finders))
    rows = []
    for label, other in OTHER_WORDS.items():
        j = truth.labels.index(label)
        matches = [find(label, other) for find in finders.values()]
        row = [truth.prevalence_L[j], *(precision(library, m, j, truth, chosen.images) for m in matches)]
        rows.append(row)
        print(f"| {label} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    print("| mean | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |")


if __name__ == "__main__":
    main()
