"""The recipe and its parts."""

from medsae_ray.config.changes import Change, read_change
from medsae_ray.config.how import GB, How, Paths, Pool, Train, Vlm
from medsae_ray.config.judge import Judge
from medsae_ray.config.recipe import Recipe, find_recipe, load_recipe, packaged_recipes, parse_recipe
from medsae_ray.config.sae import Sae
from medsae_ray.config.sweep import Member, Members, Sweep
from medsae_ray.config.vocabulary import Vocabulary
from medsae_ray.config.what import (
    Detection,
    Features,
    Naming,
    What,
)

__all__ = [
    "GB",
    "Change",
    "Detection",
    "Features",
    "How",
    "Judge",
    "Member",
    "Members",
    "Naming",
    "Paths",
    "Pool",
    "Recipe",
    "Sae",
    "Sweep",
    "Train",
    "Vlm",
    "Vocabulary",
    "What",
    "find_recipe",
    "load_recipe",
    "packaged_recipes",
    "parse_recipe",
    "read_change",
]
