"""The people, institutes and studies of made-up scans: everything that meta.csv says, and the look that follows."""

from typing import NamedTuple

import numpy as np

from medsae_ray.core.phantom.streams import stream


class Institute(NamedTuple):
    """A hospital with its scanner. Millimetres, and Hounsfield units, or thousandths of an MRI's signal."""

    name: str
    manufacturer: str
    scanner: str
    kvp: int
    noise: float
    """The standard deviation of the noise."""
    grain: float
    """The noise's correlation length in voxels."""
    blur: float
    """The standard deviation of the scanner's blur in voxels."""
    bone: float
    """The factor on bone and contrast medium; low tube voltages brighten both."""
    table: str
    """The table below the patient: "flat", "curved" or "none"."""
    margin: float
    """The air about the patient in the field of view."""
    bias: float
    """The unevenness of an MRI's signal from one side to the other."""
    weighting: str
    """The MRI's weighting: "t1" or "t2"."""


INSTITUTES = (
    Institute("A", "siemens", "Sensation 16", 140, 38, 0.0, 0.35, 0.9, "flat", 40, 0.35, "t1"),
    Institute("B", "siemens", "Somatom Force", 120, 14, 0.5, 0.5, 1.0, "curved", 20, 0.10, "t1"),
    Institute("C", "siemens", "Definition Edge", 120, 18, 0.4, 0.5, 1.05, "curved", 15, 0.15, "t2"),
    Institute("D", "ge", "LightSpeed VCT", 120, 22, 1.2, 0.95, 1.0, "none", -8, 0.25, "t2"),
    Institute("E", "toshiba", "Aquilion One", 80, 28, 0.7, 0.45, 1.35, "flat", 30, 0.05, "t1"),
    Institute("F", "philips", "Brilliance 64", 120, 16, 0.6, 0.6, 0.95, "curved", 10, 0.20, "t2"),
    Institute("G", "ge", "Revolution CT", 100, 20, 0.5, 0.45, 1.15, "flat", 20, 0.12, "t1"),
    Institute("H", "philips", "Ingenuity Core", 120, 24, 0.3, 0.55, 1.0, "flat", 25, 0.18, "t2"),
)
"""A, D and E differ from the others in noise, blur, brightness and field of view."""
HELD_OUT = ("A", "D", "E")
_SHARES = (0.13, 0.13, 0.13, 0.13, 0.13, 0.12, 0.12, 0.11)


class Study(NamedTuple):
    """A kind of examination."""

    name: str
    low: float
    """The lower end of the field of view in the standard body, in millimetres."""
    high: float
    share: float
    """Its share among the scans of its modality."""
    arms_up: bool
    pathologies: tuple[str, ...]


CT = (
    Study("ct thorax", 425, 735, 0.18, True, ("tumor", "inflammation", "vascular")),
    Study("ct abdomen", 235, 500, 0.14, True, ("tumor", "vascular", "bleeding")),
    Study("ct abdomen-pelvis", -30, 500, 0.20, True, ("tumor", "vascular", "bleeding")),
    Study("ct thorax-abdomen-pelvis", -30, 735, 0.18, True, ("tumor", "inflammation", "vascular")),
    Study("ct pelvis", -60, 240, 0.08, True, ("bleeding",)),
    Study("ct head", 765, 1010, 0.08, False, ("bleeding",)),
    Study("ct neck", 600, 860, 0.06, False, ()),
    Study("ct polytrauma", -60, 1010, 0.08, False, ("bleeding", "inflammation")),
)
MR = (
    Study("mr abdomen", 235, 500, 0.34, False, ("tumor", "vascular")),
    Study("mr pelvis", -60, 260, 0.16, False, ()),
    Study("mr thorax", 425, 735, 0.14, False, ("tumor", "inflammation")),
    Study("mr head", 765, 1010, 0.12, False, ("bleeding",)),
    Study("mr whole body", -60, 1010, 0.24, False, ("tumor",)),
)
MR_SHARE = 0.40
HEALTHY = "no_pathology"


class Person(NamedTuple):
    """One patient with one scan."""

    seed: int
    number: int
    sex: str
    """The sex, "m" or "f"."""
    age: int
    modality: str
    """The modality, "CT" or "MR"."""
    institute: Institute
    study: Study
    pathology: str

    @property
    def id(self) -> str:
        """The patient's id and folder: s0001."""
        return f"s{self.number:04d}"

    @property
    def file(self) -> str:
        """The name of the volume's file."""
        return "ct.nii.gz" if self.modality == "CT" else "mri.nii.gz"

    def meta(self) -> dict[str, str]:
        """Return the person's line of meta.csv."""
        kvp = str(self.institute.kvp) if self.modality == "CT" else ""
        return {
            "image_id": self.id,
            "age": str(self.age),
            "gender": self.sex,
            "institute": self.institute.name,
            "study_type": self.study.name,
            "split": "test" if self.institute.name in HELD_OUT else "train",
            "manufacturer": self.institute.manufacturer,
            "scanner_model": self.institute.scanner,
            "kvp": kvp,
            "pathology": self.pathology,
        }


def person(seed: int, number: int) -> Person:
    """Return patient `number` (from 1) under `seed`; the same arguments, the same person."""
    rng = stream(seed, number, "person")
    sex = "f" if rng.random() < 0.45 else "m"
    age = int(np.clip(rng.normal(60, 18), 18, 95))
    institute = INSTITUTES[rng.choice(len(INSTITUTES), p=_SHARES)]
    modality, studies = ("MR", MR) if rng.random() < MR_SHARE else ("CT", CT)
    study = studies[rng.choice(len(studies), p=[one.share for one in studies])]
    ill = bool(study.pathologies) and rng.random() < 0.35 + 0.003 * (age - 60)
    pathology = str(rng.choice(study.pathologies)) if ill else HEALTHY
    return Person(seed, number, sex, age, modality, institute, study, pathology)


def meta_csv(seed: int, scans: int) -> bytes:
    """Return TotalSegmentator's table of the first `scans` people, divided by semicolons."""
    rows = [person(seed, number).meta() for number in range(1, scans + 1)]
    return "\n".join([";".join(rows[0]), *(";".join(row.values()) for row in rows), ""]).encode()
