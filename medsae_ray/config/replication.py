"""The criteria by which a finding in one dataset replicates in others."""

from typing import Annotated

from pydantic import Field

from medsae_ray.config.base import Model


class Replication(Model):
    """With several datasets: the criteria by which a correlation of a feature with a label, selected in one, holds
    in others."""

    q: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """False discovery rate (Benjamini-Hochberg): over all pairs in the selecting dataset, over the selected ones in
    the others."""
    min_r: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Least correlation of a selected pair, whatever its number of patients."""
    keep: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Share of the selecting correlation that the other dataset's interval has to reach."""
    distance: Annotated[int, Field(ge=0, le=8)] = 4
    """Bits of 64 in which the image hashes of reported near-duplicates may differ."""
