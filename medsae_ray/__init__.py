"""Concepts inside medical image encoders: found by sparse autoencoders, named, and tested on held-out patients."""

from medsae_ray.api import load_encoder, load_sae, open_artifact, query, run
from medsae_ray.errors import (
    ArtifactError,
    DatasetError,
    EncoderError,
    ImageError,
    MedsaeError,
    RecipeError,
    ShardError,
)

__all__ = [
    "ArtifactError",
    "DatasetError",
    "EncoderError",
    "ImageError",
    "MedsaeError",
    "RecipeError",
    "ShardError",
    "load_encoder",
    "load_sae",
    "open_artifact",
    "query",
    "run",
]
