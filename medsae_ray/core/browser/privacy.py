"""Small groups: a figure on few people may be a figure on a person that somebody knows."""

from collections.abc import Sequence

import numpy as np

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.report.text import count, known

SMALL = 10
"""The fewest patients of a group that is shown."""


def people(value: float | None) -> str:
    """Format the size of a group of images, or that it is small."""
    return f"< {SMALL}" if value is not None and known(value) and 0 < value < SMALL else count(value)


def common_labels(y_NL: Floats, patient_N: np.ndarray) -> Floats:
    """Return the annotation [N, L] with NaN for labels that few patients have, or few lack."""
    shown_NL = y_NL.copy()
    for label in range(y_NL.shape[1]):
        groups = [len(np.unique(patient_N[y_NL[:, label] == value])) for value in (0, 1)]
        if any(0 < patients < SMALL for patients in groups):
            shown_NL[:, label] = np.nan
    return shown_NL


def common_values(value_N: Sequence[str | None], patient_N: np.ndarray) -> list[str | None]:
    """Return a column of metadata without the values that fewer than SMALL patients share."""
    patients: dict[str, set[int]] = {}
    for value, patient in zip(value_N, patient_N.tolist(), strict=True):
        if value is not None:
            patients.setdefault(value, set()).add(patient)
    return [value if value is not None and len(patients[value]) >= SMALL else None for value in value_N]
