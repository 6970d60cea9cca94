"""One visit of a made-up patient, the source of its radiograph."""

from dataclasses import dataclass

from medsae_ray.core.datasets.labels import CHEXPERT

LABELS = CHEXPERT
FINDINGS = LABELS[1:]
"""The 13 planted findings."""

METADATA = ("view", "sex", "age", "scanner", "portable_marker")
"""The columns that are not findings; `scanner` and `portable_marker` are the planted shortcuts."""


@dataclass(frozen=True)
class Study:
    """A visit with one frontal radiograph."""

    seed: int
    number: int
    """The patient's number under this seed."""
    index: int
    """The number of the study; 1 for the patient's first."""
    view: str
    """The view: "PA" or "AP"."""
    sex: str
    """The sex: "F" or "M"."""
    age: int
    """The age in years."""
    scanner: str
    """The scanner: "A", or "B" in the emergency department."""
    portable_marker: int
    """The marker: 1 if "PORTABLE" is burned into the film."""
    truth: dict[str, int]
    """The planted findings: 1 or 0 for each of FINDINGS."""
    labels: dict[str, int | None]
    """The annotation for each of LABELS: 1, 0, -1 (uncertain) or None (blank)."""
    film: str = "standard"
    """The look of the film, see `Hospital`."""

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
        """Return the METADATA columns as text."""
        return {name: str(getattr(self, name)) for name in METADATA}
