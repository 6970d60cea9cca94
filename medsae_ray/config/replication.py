"""When something that was found in one dataset counts as found in others."""

from typing import Annotated

from pydantic import Field

from medsae_ray.config.base import Model


class Replication(Model):
    """With several datasets: when a correlation of a feature with a label, selected in one dataset, holds in others."""

    q: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """False discovery rate (Benjamini-Hochberg): over all pairs where they are selected, over those selected where
    they are looked for."""
    min_r: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """A pair with a weaker correlation is not selected, however many patients stand behind it."""
    keep: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the selecting correlation that the other dataset's interval has to reach."""
    distance: Annotated[int, Field(ge=0, le=8)] = 4
    """Bits of 64 in which the fingerprints of two images may differ that are reported as near-duplicates."""
