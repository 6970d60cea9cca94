"""One visit of a made-up patient: all that its radiograph is drawn from."""

from dataclasses import dataclass

from medsae_ray.core.datasets.labels import CHEXPERT

LABELS = CHEXPERT
FINDINGS = LABELS[1:]
"""The 13 planted findings."""

METADATA = ("view", "sex", "age", "scanner", "portable_marker")
"""Columns that are not findings; `scanner` and `portable_marker` are the planted shortcuts."""


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
    film: str = "standard"
    """Look of the film, see `Hospital`."""

    @property
    def patient_id(self) -> str:
        """The patient's id: p00012."""
        return f"p{self.number:05d}"

    @property
    def study_id(self) -> str:
        """The visit's id: p00012-s0."""
        return f"{self.patient_id}-s{self.index}"

    @property
    def image_id(self) -> str:
        """The image's id; as a study has one radiograph, it is the study's."""
        return self.study_id

    def metadata(self) -> dict[str, str]:
        """The METADATA columns as text."""
        return {name: str(getattr(self, name)) for name in METADATA}
