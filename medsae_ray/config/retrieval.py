"""The test of retrieval: how alike the images are that fingerprints find."""

from typing import Annotated

from pydantic import Field

from medsae_ray.config.base import Model
from medsae_ray.options import Seed

KS = [1, 2, 3, 5, 10, 20, 50, 100]
Size = Annotated[int, Field(ge=1, le=1000)]


class Retrieval(Model):
    """Images of test patients, each searched for among those of other patients that the SAE was not trained on."""

    ks: Annotated[list[Size], Field(min_length=1, max_length=20)] = KS
    """Sizes of fingerprints: an image's k strongest features, or dimensions."""
    references: Annotated[int, Field(ge=1, le=1000)] = 1000
    """Images that are searched for, at most; one of each test patient."""
    seed: Seed = 0
    """Of the choice of references and random images, and of the intervals."""
