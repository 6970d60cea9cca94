"""Made-up patients: who they are, what they have, and what an imperfect annotator wrote down.

Toys for trying the software: the rates and signs are invented, only the label names are CheXpert's.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medsae_ray.core.phantom.render import render
from medsae_ray.core.phantom.streams import stream

LUNG_OPACITY_CHILDREN = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
"""Findings that imply Lung Opacity, as in CheXpert's hierarchy."""

LABELS = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
"""The 14 labels of CheXpert in its order."""

FINDINGS = LABELS[1:]
"""The 13 planted findings."""

METADATA = ("view", "sex", "age", "scanner", "portable_marker")
"""Columns that are not findings; `scanner` and `portable_marker` are the planted shortcuts."""

TRAINING_SEEDS = range(1_000_000, 2_000_000)
"""Seeds of the patients that the shipped models were trained on. No run may use them."""

_UNCERTAIN, _BLANK = 0.03, 0.10


@dataclass(frozen=True)
class Study:
    """One visit with one frontal radiograph."""

    seed: int
    number: int
    """The patient's number under this seed."""
    index: int
    """1 for the patient's first study."""
    view: str
    """"PA" or "AP"."""
    sex: str
    """"F" or "M"."""
    age: int
    """Years."""
    scanner: str
    """"A", or "B" in the emergency department."""
    portable_marker: int
    """1 if "PORTABLE" is burned into the film."""
    truth: dict[str, int]
    """What was planted, 1 or 0 for each of FINDINGS."""
    labels: dict[str, int | None]
    """What was annotated, for each of LABELS: 1, 0, -1 (uncertain) or None (blank)."""

    @property
    def patient_id(self) -> str:
        return f"p{self.number:05d}"

    @property
    def study_id(self) -> str:
        return f"{self.patient_id}-s{self.index}"

    @property
    def image_id(self) -> str:
        return self.study_id

    def metadata(self) -> dict[str, str]:
        """The METADATA columns as text."""
        return {name: str(getattr(self, name)) for name in METADATA}

    def render(self) -> NDArray[np.uint8]:
        """The radiograph, uint8 [224, 224], bright where dense; a function of this study's fields and nothing else."""
        return render(self)


def patient(seed: int, number: int) -> list[Study]:
    """The one to three studies of patient `number` of the hospital `seed`; the same arguments, the same studies."""
    rng = stream(seed, number, "patient")
    sex = "F" if rng.random() < 0.48 else "M"
    age = int(np.clip(rng.normal(60, 17), 18, 93))
    healthy = rng.random() < 0.22
    chronic = _chronic(rng, age, healthy)
    n_studies = int(rng.choice([1, 2, 3], p=[0.55, 0.30, 0.15]))
    return [_study(seed, number, index, sex, age, healthy, chronic) for index in range(1, n_studies + 1)]


def _chronic(rng: np.random.Generator, age: int, healthy: bool) -> dict[str, int]:
    """Findings that a patient keeps from study to study."""
    old = age / 60
    heart = _toss(rng, 0.18 * old, healthy)
    return {
        "Cardiomegaly": heart,
        "Enlarged Cardiomediastinum": _toss(rng, 0.26 if heart else 0.10, healthy),
        "Lung Lesion": _toss(rng, 0.13 * old, healthy),
        "Pleural Other": _toss(rng, 0.12 * old, healthy),
    }


def _acute(rng: np.random.Generator, scanner: str, healthy: bool, chronic: dict[str, int]) -> dict[str, int]:
    """Findings of one visit, with the company that they keep."""
    heart = chronic["Cardiomegaly"]
    fracture = _toss(rng, 0.42 if scanner == "B" else 0.02, healthy)
    edema = _toss(rng, 0.40 if heart else 0.09, healthy)
    effusion = _toss(rng, 0.50 if edema else 0.26 if heart else 0.13, healthy)
    pneumonia = _toss(rng, 0.13, healthy)
    return {
        "Fracture": fracture,
        "Edema": edema,
        "Pleural Effusion": effusion,
        "Pneumonia": pneumonia,
        "Consolidation": _toss(rng, 0.60 if pneumonia else 0.08, healthy),
        "Atelectasis": _toss(rng, 0.38 if effusion else 0.11, healthy),
        "Pneumothorax": _toss(rng, 0.22 if fracture else 0.10, healthy),
    }


def _toss(rng: np.random.Generator, probability: float, healthy: bool) -> int:
    """1 with `probability`, never in the healthy; draws once either way."""
    return int(rng.random() < probability and not healthy)


def _study(seed: int, number: int, index: int, sex: str, age: int, healthy: bool, chronic: dict[str, int]) -> Study:
    rng = stream(seed, number, index, "study")
    scanner = "B" if rng.random() < 0.30 else "A"
    found = chronic | _acute(rng, scanner, healthy, chronic)
    view = "AP" if rng.random() < (0.25 if healthy else 0.50) else "PA"
    devices = _toss(rng, 0.42 if view == "AP" else 0.06, healthy)
    portable = int(rng.random() < (0.85 if devices else 0.06 if view == "AP" else 0.01))
    opacity = _toss(rng, 0.07, healthy) or max(found[child] for child in LUNG_OPACITY_CHILDREN)
    found |= {"Support Devices": devices, "Lung Opacity": opacity}
    truth = {name: found[name] for name in FINDINGS}
    labels = annotate(stream(seed, number, index, "labels"), truth)
    return Study(seed, number, index, view, sex, age, scanner, portable, truth, labels)


def annotate(rng: np.random.Generator, truth: dict[str, int]) -> dict[str, int | None]:
    """An imperfect annotation of `truth`: some findings uncertain (-1), some blank (None), the rest right.

    "No Finding" is 1 or blank, never 0, as in CheXpert. A finding is never both known present in a child and denied in
    its parent: blanks and doubts are drawn for each label alone, and values that are given are true.
    """
    labels: dict[str, int | None] = {"No Finding": None if any(truth.values()) else 1}
    for name in FINDINGS:
        draw = rng.random()
        labels[name] = -1 if draw < _UNCERTAIN else None if draw < _UNCERTAIN + _BLANK else truth[name]
    return labels
