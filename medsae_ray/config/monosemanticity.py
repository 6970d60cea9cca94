"""The measurement of monosemantic features."""

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from medsae_ray.config.base import Model, by_kind
from medsae_ray.core.encoders import ENCODERS
from medsae_ray.options import Seed

if TYPE_CHECKING:
    from medsae_ray.core.encoders import EncoderOptions as Encoder
else:
    Encoder = by_kind(ENCODERS)


class Monosemanticity(Model):
    """The measurement of the concepts that a feature represents, from its strongest images."""

    images: Annotated[int, Field(ge=2, le=100)] = 10
    """Strongest images of a feature, of distinct patients, whose labels are compared; a feature with fewer is not
    judged. SAIL takes 10, and 50."""
    draws: Annotated[int, Field(ge=2, le=10_000)] = 100
    """Random draws behind each null: subsets of images, as in SAIL, and exchanges of labels."""
    encoder: Encoder | None = None
    """Another encoder, whose embeddings tell how alike images are, with its weights in how.paths.second_weights. It
    embeds all images. Null: the run's own, in whose space any direction looks compact."""
    seed: Seed = 0
    """Seed of the draws."""
