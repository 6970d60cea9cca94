"""The recipe and its parts."""

from medsae_ray.config.datasets import DicomDataset, PhantomDataset, TableDataset, TotalSegmentatorDataset
from medsae_ray.config.how import How, Paths, Pool, Train, Vlm
from medsae_ray.config.recipe import Recipe, find_recipe, load_recipe, parse_recipe
from medsae_ray.config.what import (
    Detection,
    Features,
    Naming,
    Sae,
    What,
)

__all__ = [
    "Detection",
    "DicomDataset",
    "Features",
    "How",
    "Naming",
    "Paths",
    "PhantomDataset",
    "Pool",
    "Recipe",
    "Sae",
    "TableDataset",
    "TotalSegmentatorDataset",
    "Train",
    "Vlm",
    "What",
    "find_recipe",
    "load_recipe",
    "parse_recipe",
]
