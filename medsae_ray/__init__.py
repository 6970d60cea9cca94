"""Concepts inside medical image encoders: found by sparse autoencoders, named, and tested on held-out patients."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from medsae_ray.api import load_encoder, load_recipe, load_sae, open_artifact, query, run, similar
from medsae_ray.errors import (
    ArtifactError,
    DatasetError,
    DivergedError,
    EncoderError,
    EngineError,
    ImageError,
    JudgementError,
    MedsaeError,
    NamingError,
    RecipeError,
    ServiceError,
    ShardError,
)
from medsae_ray.sae import Sae

if TYPE_CHECKING:
    from medsae_ray.client.client import AsyncClient, Client
    from medsae_ray.config import Recipe

try:
    __version__ = version("medsae-ray")
except PackageNotFoundError:  # a checkout that is not installed
    __version__ = "unknown"

__all__ = [
    "ArtifactError",
    "AsyncClient",
    "Client",
    "DatasetError",
    "DivergedError",
    "EncoderError",
    "EngineError",
    "ImageError",
    "JudgementError",
    "MedsaeError",
    "NamingError",
    "Recipe",
    "RecipeError",
    "Sae",
    "ServiceError",
    "ShardError",
    "__version__",
    "load_encoder",
    "load_recipe",
    "load_sae",
    "open_artifact",
    "query",
    "run",
    "similar",
]


def __getattr__(name: str) -> object:
    """Import Recipe and the clients when they are first asked for, since pydantic takes a while to import."""
    if name == "Recipe":
        from medsae_ray.config import Recipe

        return Recipe
    if name in ("AsyncClient", "Client"):
        from medsae_ray.client import client

        return getattr(client, name)
    raise AttributeError(f"module 'medsae_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
