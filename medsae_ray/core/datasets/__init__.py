"""The datasets that a recipe can name. Each kind is one file with its options and its reader, and one entry here."""

from medsae_ray.core.datasets.base import Dataset
from medsae_ray.core.datasets.chexpert import ChexpertDataset
from medsae_ray.core.datasets.dicom import DicomDataset
from medsae_ray.core.datasets.mimic import MimicDataset
from medsae_ray.core.datasets.nih import NihDataset
from medsae_ray.core.datasets.phantom import PhantomDataset
from medsae_ray.core.datasets.phantom_volumes import PhantomVolumesDataset
from medsae_ray.core.datasets.table import TableDataset
from medsae_ray.core.datasets.totalsegmentator import TotalSegmentatorDataset
from medsae_ray.core.datasets.vindr import VindrDataset

DATASETS: tuple[type[Dataset], ...] = (
    PhantomDataset,
    TableDataset,
    ChexpertDataset,
    MimicDataset,
    NihDataset,
    VindrDataset,
    DicomDataset,
    TotalSegmentatorDataset,
    PhantomVolumesDataset,
)

__all__ = ["DATASETS", "Dataset"]
