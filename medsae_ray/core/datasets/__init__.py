"""Datasets by kind: each has a reader that makes manifest rows of the files that a recipe names."""

from medsae_ray.core.datasets.dicom import DICOM
from medsae_ray.core.datasets.rows import Reader
from medsae_ray.core.datasets.table import TABLE
from medsae_ray.core.datasets.totalsegmentator import TOTALSEGMENTATOR

READERS: dict[str, Reader] = {"table": TABLE, "dicom": DICOM, "totalsegmentator": TOTALSEGMENTATOR}
"""All kinds but `phantom`, whose images a stage of the run draws."""

__all__ = ["READERS", "Reader"]
