"""SAIL's naming and ranking of names, beside the run's own."""

from typing import Annotated

from pydantic import AfterValidator, Field

from medsae_ray.config.base import Model
from medsae_ray.core.naming.identifiers import named_as_identifier
from medsae_ray.options import Distinct, Seed


def _no_identifier(column: str) -> str:
    if named_as_identifier(column):
        raise ValueError(
            f"column {column!r} names a patient, a study or a file, and no model is shown that: take columns as sex, "
            "age, view"
        )
    return column


Column = Annotated[str, Field(min_length=1), AfterValidator(_no_identifier)]


class Judge(Model):
    """Names from five images as SAIL gives them, and their ranks among five names on images of other patients."""

    columns: Annotated[list[Column], Distinct, AfterValidator(sorted)] = Field(default_factory=list)
    """Columns of metadata (sex, age, view) that the model is shown, alone and with the images, as SAIL does. Without
    any, and without `labels`, there is only the arm of images alone."""
    labels: bool = False
    """Whether it is also shown which labels are annotated as present, as SAIL shows organs. Names then restate them."""
    features: Annotated[int, Field(ge=5, le=100_000)] = 250
    """Features to name, at most: those that are active on the most naming images, but not on all."""
    seed: Seed = 0
    """Seed of the rivals, of the order of letters and of the model's decoding."""
