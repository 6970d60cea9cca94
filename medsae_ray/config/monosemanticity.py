"""The measurement of monosemantic features."""

from typing import Annotated

from pydantic import Field

from medsae_ray.config.base import Model
from medsae_ray.options import Seed


class Monosemanticity(Model):
    """The measurement of the concepts that a feature represents, from its strongest images."""

    images: Annotated[int, Field(ge=2, le=100)] = 10
    """Strongest images of a feature, of distinct patients, whose labels are compared; a feature with fewer is not
    judged. SAIL takes 10, and 50."""
    draws: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Random draws behind each null: subsets of images, as in SAIL, and exchanges of labels."""
    seed: Seed = 0
    """Seed of the draws."""
