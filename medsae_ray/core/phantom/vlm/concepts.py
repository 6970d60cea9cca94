"""The concepts of the small vision-language model: the planted findings and other visible properties of a film."""

from typing import NamedTuple

from medsae_ray.core.naming.prompts import CONTROL_NAME
from medsae_ray.core.phantom.study import FINDINGS, Study


class VisibleProperty(NamedTuple):
    """A visible property: its name, a short form, one of prompts.CATEGORIES, a check on an image, and its place."""

    name: str
    short: str
    category: str
    definition: str
    location: str


CONCEPTS = (
    VisibleProperty(
        "Enlarged Cardiomediastinum",
        "wide mediastinum",
        "finding",
        "bulging wide mediastinum above the heart",
        "mediastinum",
    ),
    VisibleProperty("Cardiomegaly", "large heart", "finding", "heart wider than half of the chest", "heart"),
    VisibleProperty("Lung Opacity", "opacity", "finding", "any part of a lung is whiter than normal", "lungs"),
    VisibleProperty("Lung Lesion", "lesion", "finding", "round nodules with a clear rim", "lungs"),
    VisibleProperty("Edema", "edema", "finding", "haze about both hila and short lines at the bases", "lungs"),
    VisibleProperty(
        "Consolidation", "consolidation", "finding", "dense ragged patch with dark branching bronchi", "lungs"
    ),
    VisibleProperty("Pneumonia", "pneumonia", "finding", "scattered fluffy mottled clouds", "lungs"),
    VisibleProperty(
        "Atelectasis", "atelectasis", "finding", "horizontal plates above a raised diaphragm", "lung bases"
    ),
    VisibleProperty(
        "Pneumothorax", "pneumothorax", "finding", "dark rim without vessels outside a thin bright line", "pleura"
    ),
    VisibleProperty(
        "Pleural Effusion",
        "effusion",
        "finding",
        "fluid with a meniscus in the costophrenic angle",
        "costophrenic angles",
    ),
    VisibleProperty("Pleural Other", "plaques", "finding", "thick bright plaques along the inner chest wall", "pleura"),
    VisibleProperty("Fracture", "fracture", "finding", "ribs out of line with a gap and callus", "ribs"),
    VisibleProperty("Support Devices", "devices", "device", "tubes or wires or boxes of metal", "chest"),
    VisibleProperty("No Finding", "normal", "finding", "normal heart and lungs and ribs without any device", "chest"),
    VisibleProperty(
        "AP projection", "AP", "projection", "magnified heart and high diaphragm of a lying patient", "whole image"
    ),
    VisibleProperty("PORTABLE marker", "PORTABLE", "marker", "the word PORTABLE is burned in", "corner"),
    VisibleProperty(
        "collimated borders", "collimated", "exposure", "dark bands at the left and right border", "borders"
    ),
    VisibleProperty(
        "breast shadows", "breasts", "anatomy", "two soft round shadows over the lower lungs", "lower chest"
    ),
)
"""The 13 findings in their usual order, then the other properties."""

CONTROL = VisibleProperty(CONTROL_NAME, "radiograph", "anatomy", "an image of the chest", "whole image")
"""The property of every film."""

NAMES = tuple(concept.name for concept in CONCEPTS)


def truth(study: Study) -> tuple[bool, ...]:
    """Return the visible properties of one film, in the order of CONCEPTS."""
    found = [bool(study.truth[name]) for name in FINDINGS]
    others = study.view == "AP", study.portable_marker == 1, study.scanner == "B", study.sex == "F"
    return *found, not any(found), *others
