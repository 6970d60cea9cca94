"""Names from a list of terms, by an encoder that also embeds texts."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from medsae_ray.config.base import Model
from medsae_ray.options import Positive, Seed

TEMPLATES = ["{}", "{} on a chest radiograph", "a chest radiograph with {}", "chest x-ray: {}"]


class Vocabulary(Model):
    """The naming of each feature by the term whose text embedding is nearest to its decoder direction, if any."""

    terms: Annotated[list[str], Field(min_length=2)] | None = None
    """The terms. Null: those of how.paths.vocabulary, or the packaged ones of chest radiographs."""
    templates: Annotated[list[str], Field(min_length=1)] = TEMPLATES
    """Sentences with {} in place of the term; a term's embedding is the mean over them."""
    centring: Literal["text", "both", "none"] = "text"
    """Part removed before the cosine, for the gap between images and texts: the vocabulary's mean from every text,
    with `both` also from every feature its part along the mean training image, which a difference of images lacks."""
    q: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """False discovery rate, over all features, up to which the nearest term becomes a name."""
    draws: Positive = 10_000
    """Random directions that estimate the nearness of a term by chance."""
    seed: Seed = 0
    """Seed of these directions."""

    @field_validator("templates")
    @classmethod
    def _have_a_place(cls, templates: list[str]) -> list[str]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"the template {template!r} needs {{}} once, where the term goes")
        return templates
