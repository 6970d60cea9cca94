"""What the small vision-language model knows: the planted findings and what else can be seen on a phantom film."""

from typing import NamedTuple

from medsae_ray.core.naming.prompts import CONTROL_NAME
from medsae_ray.core.phantom.study import FINDINGS, Study


class Concept(NamedTuple):
    """A visible property: its name, in short, one of prompts.CATEGORIES, how to check it on an image, where to look."""

    name: str
    short: str
    category: str
    definition: str
    location: str


CONCEPTS = (
    Concept(
        "Enlarged Cardiomediastinum",
        "wide mediastinum",
        "finding",
        "bulging wide mediastinum above the heart",
        "mediastinum",
    ),
    Concept("Cardiomegaly", "large heart", "finding", "heart wider than half of the chest", "heart"),
    Concept("Lung Opacity", "opacity", "finding", "any part of a lung is whiter than normal", "lungs"),
    Concept("Lung Lesion", "lesion", "finding", "round nodules with a clear rim", "lungs"),
    Concept("Edema", "edema", "finding", "haze about both hila and short lines at the bases", "lungs"),
    Concept("Consolidation", "consolidation", "finding", "dense ragged patch with dark branching bronchi", "lungs"),
    Concept("Pneumonia", "pneumonia", "finding", "scattered fluffy mottled clouds", "lungs"),
    Concept("Atelectasis", "atelectasis", "finding", "horizontal plates above a raised diaphragm", "lung bases"),
    Concept("Pneumothorax", "pneumothorax", "finding", "dark rim without vessels outside a thin bright line", "pleura"),
    Concept(
        "Pleural Effusion",
        "effusion",
        "finding",
        "fluid with a meniscus in the costophrenic angle",
        "costophrenic angles",
    ),
    Concept("Pleural Other", "plaques", "finding", "thick bright plaques along the inner chest wall", "pleura"),
    Concept("Fracture", "fracture", "finding", "ribs out of line with a gap and callus", "ribs"),
    Concept("Support Devices", "devices", "device", "tubes or wires or boxes of metal", "chest"),
    Concept("No Finding", "normal", "finding", "normal heart and lungs and ribs without any device", "chest"),
    Concept(
        "AP projection", "AP", "projection", "magnified heart and high diaphragm of a lying patient", "whole image"
    ),
    Concept("PORTABLE marker", "PORTABLE", "marker", "the word PORTABLE is burned in", "corner"),
    Concept("collimated borders", "collimated", "exposure", "dark bands at the left and right border", "borders"),
    Concept("breast shadows", "breasts", "anatomy", "two soft round shadows over the lower lungs", "lower chest"),
)
"""The 13 findings in their usual order, then what is no finding."""

CONTROL = Concept(CONTROL_NAME, "radiograph", "anatomy", "an image of the chest", "whole image")
"""True of every film."""

NAMES = tuple(concept.name for concept in CONCEPTS)


def truth(study: Study) -> tuple[bool, ...]:
    """What one film shows, in the order of CONCEPTS."""
    found = [bool(study.truth[name]) for name in FINDINGS]
    others = study.view == "AP", study.portable_marker == 1, study.scanner == "B", study.sex == "F"
    return *found, not any(found), *others
