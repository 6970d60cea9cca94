"""Names from a list of terms, by an encoder that also embeds texts."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from medsae_ray.config.base import Model
from medsae_ray.options import Positive, Seed

TEMPLATES = ["{}", "{} on a chest radiograph", "a chest radiograph with {}", "chest x-ray: {}"]


class Vocabulary(Model):
    """Each feature gets the term whose text embedding is nearest to its decoder direction, or none."""

    terms: Annotated[list[str], Field(min_length=2)] | None = None
    """The terms. Null: those of how.paths.vocabulary, or the packaged ones of chest radiographs."""
    templates: Annotated[list[str], Field(min_length=1)] = TEMPLATES
    """Sentences with {} where the term goes; a term's embedding is the mean over them."""
    centring: Literal["text", "both", "none"] = "text"
    """What is removed before the cosine, for the gap between images and texts: from every text the vocabulary's mean,
    with `both` also from every feature its part along the mean training image, which a difference of images lacks."""
    q: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """False discovery rate, over all features, up to which the nearest term becomes a name."""
    draws: Positive = 10_000
    """Random directions that say how near a term may be by chance."""
    seed: Seed = 0
    """Of these directions."""

    @field_validator("templates")
    @classmethod
    def _have_a_place(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"the template {template!r} needs {{}} once, where the term goes")
        return templates
