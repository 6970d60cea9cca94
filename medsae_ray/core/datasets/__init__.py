"""Datasets by kind: each has a reader that makes manifest rows of the files that a recipe names."""

from medsae_ray.core.datasets.chexpert import CHEXPERT
from medsae_ray.core.datasets.dicom import DICOM
from medsae_ray.core.datasets.mimic import MIMIC
from medsae_ray.core.datasets.nih import NIH
from medsae_ray.core.datasets.rows import Reader
from medsae_ray.core.datasets.table import TABLE
from medsae_ray.core.datasets.totalsegmentator import TOTALSEGMENTATOR
from medsae_ray.core.datasets.vindr import VINDR

READERS: dict[str, Reader] = {
    "table": TABLE,
    "chexpert": CHEXPERT,
    "mimic-cxr-jpg": MIMIC,
    "nih-cxr14": NIH,
    "vindr-cxr": VINDR,
    "dicom": DICOM,
    "totalsegmentator": TOTALSEGMENTATOR,
}
"""All kinds but `phantom`, whose images a stage of the run draws."""

__all__ = ["READERS", "Reader"]
