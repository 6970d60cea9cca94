"""The precision of queries in words for an encoder without a text half: the first images of a phantom run.

The queries are, for every planted finding, its name, the name's words in another form, and the same in other words;
images of detection patients are retrieved, one of each patient.
Usage: python benchmarks/lexical_queries.py ROOT [--recipe phantom] [--images 10]
"""

import argparse
from collections.abc import Callable

import numpy as np

from medsae_ray.config import load_recipe
from medsae_ray.core.datasets.phantom import PhantomDataset
from medsae_ray.core.phantom.cohort import patient
from medsae_ray.core.retrieval.shelf import Match, Shelf
from medsae_ray.finished import library_of, open_run

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
OTHER_FORMS = {
    "Enlarged Cardiomediastinum": "enlargement of the cardiomediastinum",
    "Cardiomegaly": "cardiomegalies",
    "Lung Opacity": "opacities in the lungs",
    "Lung Lesion": "lesions in the lungs",
    "Edema": "edemas",
    "Consolidation": "consolidated",
    "Pneumonia": "pneumonias",
    "Atelectasis": "atelectases",
    "Pneumothorax": "pneumothoraces",
    "Pleural Effusion": "effusions",
    "Pleural Other": "other pleural",
    "Fracture": "fractured",
    "Support Devices": "supporting device",
}
SPLIT = "detection"
Way = Callable[[str, str], list[str]]
"""(name of a finding, the same in other words) -> images."""


def truths(image_N: np.ndarray, seed: int) -> dict[str, dict[str, int]]:
    """Image -> what was planted."""
    numbers = {int(image[1:].split("-")[0]) for image in image_N}
    return {study.image_id: study.truth for number in numbers for study in patient(seed, number)}


def by_strength(shelf: Shelf, matches: list[Match], images: int) -> list[str]:
    """Return the images with the highest score, as the service ranks them."""
    return [row["image_id"] for row in shelf.strongest(matches, images, SPLIT)]


def precision(found: list[str], label: str, truth: dict[str, dict[str, int]], images: int) -> float:
    """Share of `images` images that have the finding; those that are missing count as wrong."""
    return sum(truth[image][label] for image in found) / images


def by_cosine(shelf: Shelf, matches: list[Match], images: int) -> list[str]:
    """SAIL's retrieval: cosine of activations, on the matching features alone, with the features' fingerprint, each
    one's mean over its five strongest images."""
    if not matches:
        return []
    features = [match.feature for match in matches]
    x_NJ = shelf.x_NF[:, features].toarray() * shelf.max_F[features]
    print_J = np.sort(x_NJ, axis=0)[-5:].mean(axis=0)
    norm_N = np.linalg.norm(x_NJ, axis=1) * np.linalg.norm(print_J)
    cosine_N = np.where((shelf.split_N == SPLIT) & (norm_N > 0), x_NJ @ print_J / np.where(norm_N > 0, norm_N, 1), 0)
    of_patient: dict[str, str] = {}
    for row in np.argsort(-cosine_N, kind="stable")[: int((cosine_N > 0).sum())]:
        of_patient.setdefault(shelf.patient_N[row], shelf.image_N[row])
    return list(of_patient.values())[:images]


def main() -> None:
    """Print the precision of each way to query, finding by finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--recipe", default="phantom")
    parser.add_argument("--images", type=int, default=10)
    chosen = parser.parse_args()
    recipe, n = load_recipe(chosen.recipe), chosen.images
    run = open_run(recipe, chosen.root)
    library = library_of(run)
    shelf, dataset = library.shelf, recipe.what.dataset
    assert isinstance(dataset, PhantomDataset), "only phantoms have a planted truth"
    truth = truths(shelf.image_N, dataset.seed)
    held_N = shelf.split_N == SPLIT
    tested = list(dict(zip(shelf.patient_N[held_N], shelf.image_N[held_N], strict=True)).values())
    best_of = {row["label"]: row["feature"] for row in run.artifacts["features"].record.metrics["findings"]}
    ways: dict[str, Way] = {
        "name": lambda label, other: by_strength(shelf, library.matches(label, 3), n),
        "name, by cosine": lambda label, other: by_cosine(shelf, library.matches(label, 3), n),
        "name, one feature": lambda label, other: by_strength(shelf, library.matches(label, 1), n),
        "other form": lambda label, other: by_strength(shelf, library.matches(OTHER_FORMS[label], 3), n),
        "other words": lambda label, other: by_strength(shelf, library.matches(other, 3), n),
        "other words, by cosine": lambda label, other: by_cosine(shelf, library.matches(other, 3), n),
        "best feature": lambda label, other: by_strength(shelf, [Match(best_of[label], 1.0, None)], n),
    }
    print("| finding | prevalence | " + " | ".join(ways) + " |\n|---|---|" + "---|" * len(ways))
    rows = []
    for label, other in OTHER_WORDS.items():
        prevalence = precision(tested, label, truth, len(tested))
        row = [prevalence, *(precision(way(label, other), label, truth, n) for way in ways.values())]
        rows.append(row)
        print(f"| {label} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    print("| mean | " + " | ".join(f"{value:.2f}" for value in np.mean(rows, axis=0)) + " |")


if __name__ == "__main__":
    main()
