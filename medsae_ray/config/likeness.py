"""The judgement whether an image is like those of the run."""

from typing import Annotated

from pydantic import Field

from medsae_ray.config.base import Model
from medsae_ray.options import Seed


class Likeness(Model):
    """Distance of an image's embedding from those that the SAE was trained on."""

    level: Annotated[float, Field(ge=0.5, lt=1)] = 0.98
    """Share of new patients' images that counts as like the run; all others are flagged. The split naming has to have
    level / (1 - level) patients, 49 for 0.98."""
    seed: Seed = 0
    """Seed of the choice of images that others are compared with."""
