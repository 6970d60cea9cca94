"""Made-up patients: their studies, findings and imperfect annotations.

Toys for trying the software: the rates and signs are invented, only the label names are CheXpert's.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from medsae_ray.core.phantom.streams import stream
from medsae_ray.core.phantom.study import FINDINGS, Study

LUNG_OPACITY_CHILDREN = ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis")
"""The findings that imply Lung Opacity, as in CheXpert's hierarchy."""

TRAINING_SEEDS = range(1_000_000, 2_000_000)
"""The seeds of the patients that the shipped models were trained on. No run may use them."""

_UNCERTAIN, _BLANK = 0.03, 0.10
_STRAY_MARKERS = 0.25


@dataclass(frozen=True)
class Hospital:
    """The differences of a hospital's patients and films from the usual ones."""

    prevalence: float
    """The factor on the probability of every finding."""
    film: str
    """The look of the films: "standard", or "soft" for a flatter, darker one."""
    marker: str
    """The films with a PORTABLE marker: those of support "devices" (a planted shortcut), "random" ones, or "never"."""


USUAL = Hospital(prevalence=1.0, film="standard", marker="devices")
"""Differs in nothing; the shipped models were trained on its patients."""


class _Luck(NamedTuple):
    """The chances of a patient for findings."""

    factor: float
    healthy: bool

    def toss(self, rng: np.random.Generator, probability: float) -> int:
        """Return 1 with `probability` times the hospital's factor, never in the healthy; draws once either way."""
        return int(rng.random() < probability * self.factor and not self.healthy)


def patient(seed: int, number: int, hospital: Hospital = USUAL) -> list[Study]:
    """Return the one to three studies of patient `number` under `seed`; the same arguments, the same studies."""
    rng = stream(seed, number, "patient")
    sex = "F" if rng.random() < 0.48 else "M"
    age = int(np.clip(rng.normal(60, 17), 18, 93))
    luck = _Luck(hospital.prevalence, bool(rng.random() < 0.22))
    chronic = _chronic(rng, age, luck)
    n_studies = int(rng.choice([1, 2, 3], p=[0.55, 0.30, 0.15]))
    return [_study(seed, number, index, sex, age, luck, chronic, hospital) for index in range(1, n_studies + 1)]


def _chronic(rng: np.random.Generator, age: int, luck: _Luck) -> dict[str, int]:
    """Draw the findings that a patient keeps from study to study."""
    old = age / 60
    heart = luck.toss(rng, 0.18 * old)
    return {
        "Cardiomegaly": heart,
        "Enlarged Cardiomediastinum": luck.toss(rng, 0.26 if heart else 0.10),
        "Lung Lesion": luck.toss(rng, 0.13 * old),
        "Pleural Other": luck.toss(rng, 0.12 * old),
    }


def _acute(rng: np.random.Generator, scanner: str, luck: _Luck, chronic: dict[str, int]) -> dict[str, int]:
    """Draw the findings of one visit, with their usual company."""
    heart = chronic["Cardiomegaly"]
    fracture = luck.toss(rng, 0.42 if scanner == "B" else 0.02)
    edema = luck.toss(rng, 0.40 if heart else 0.09)
    effusion = luck.toss(rng, 0.50 if edema else 0.26 if heart else 0.13)
    pneumonia = luck.toss(rng, 0.13)
    return {
        "Fracture": fracture,
        "Edema": edema,
        "Pleural Effusion": effusion,
        "Pneumonia": pneumonia,
        "Consolidation": luck.toss(rng, 0.60 if pneumonia else 0.08),
        "Atelectasis": luck.toss(rng, 0.38 if effusion else 0.11),
        "Pneumothorax": luck.toss(rng, 0.22 if fracture else 0.10),
    }


def _marker(hospital: Hospital, devices: int, view: str) -> float:
    """Return the probability that "PORTABLE" is burned into a film."""
    if hospital.marker == "devices":
        return 0.85 if devices else 0.06 if view == "AP" else 0.01
    return _STRAY_MARKERS if hospital.marker == "random" else 0.0


def _study(
    seed: int,
    number: int,
    index: int,
    sex: str,
    age: int,
    luck: _Luck,
    chronic: dict[str, int],
    hospital: Hospital,
) -> Study:
    rng = stream(seed, number, index, "study")
    scanner = "B" if rng.random() < 0.30 else "A"
    found = chronic | _acute(rng, scanner, luck, chronic)
    view = "AP" if rng.random() < (0.25 if luck.healthy else 0.50) else "PA"
    devices = luck.toss(rng, 0.42 if view == "AP" else 0.06)
    portable = int(rng.random() < _marker(hospital, devices, view))
    opacity = luck.toss(rng, 0.07) or max(found[child] for child in LUNG_OPACITY_CHILDREN)
    found |= {"Support Devices": devices, "Lung Opacity": opacity}
    truth = {name: found[name] for name in FINDINGS}
    labels = annotate(stream(seed, number, index, "labels"), truth)
    return Study(seed, number, index, view, sex, age, scanner, portable, truth, labels, hospital.film)


def annotate(rng: np.random.Generator, truth: dict[str, int]) -> dict[str, int | None]:
    """Annotate `truth` imperfectly: some findings uncertain (-1), some blank (None), the rest right.

    "No Finding" is 1 or blank, never 0, as in CheXpert. A finding is never both known present in a child and denied in
    its parent: blanks and doubts are drawn for each label alone, and all values are true.
    """
    labels: dict[str, int | None] = {"No Finding": None if any(truth.values()) else 1}
    for name in FINDINGS:
        draw = rng.random()
        labels[name] = -1 if draw < _UNCERTAIN else None if draw < _UNCERTAIN + _BLANK else truth[name]
    return labels
