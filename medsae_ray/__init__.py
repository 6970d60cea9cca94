"""Concepts inside medical image encoders: found by sparse autoencoders, named, and tested on held-out patients."""

from importlib.metadata import PackageNotFoundError, version

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

try:
    __version__ = version("medsae-ray")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"

__all__ = [
    "ArtifactError",
    "DatasetError",
    "EncoderError",
    "ImageError",
    "MedsaeError",
    "RecipeError",
    "ShardError",
    "__version__",
    "load_encoder",
    "load_sae",
    "open_artifact",
    "query",
    "run",
]
