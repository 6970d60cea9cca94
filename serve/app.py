"""The engine and the service for `serve deploy serve/config.yaml`.

Two applications, so that batch runs on the same cluster find the engine and share it.
"""

from dataclasses import replace

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from medsae_ray.config import load_recipe
from medsae_ray.engine.client import engine_application
from medsae_ray.engine.session import identity_of, settings_of
from medsae_ray.errors import RecipeError
from medsae_ray.finished import open_run
from medsae_ray.service.address import token_of
from medsae_ray.service.deployment import application
from medsae_ray.service.middleware import digest


class Model(BaseModel):
    """The engine's `args` in config.yaml."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    """The recipe of the service."""


class Arguments(BaseModel):
    """The service's `args` in config.yaml."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    """A YAML file on the cluster's head node, or the name of a packaged recipe."""
    root: str
    """The root of the finished run: a path or URI that every node can read."""
    token_variable: str = "MEDSAE_TOKEN"
    """The environment variable, on the cluster, with the token that callers send. Serve chooses the address, so the
    service always has one here."""


def engine(args: Model) -> Application:
    """Build the vision-language model. Raises RecipeError if the recipe has none on this cluster."""
    recipe = load_recipe(args.recipe)
    if recipe.what.naming is None or recipe.how.vlm is None or recipe.how.vlm.url:
        raise RecipeError(
            f"{args.recipe} runs no vision-language model on the cluster: delete the application medsae-engine from "
            "the configuration"
        )
    return engine_application(replace(settings_of(recipe), metrics=True), identity_of(recipe))


def build(args: Arguments) -> Application:
    """Build the service. Raises ArtifactError if the run is not finished, RecipeError without a token."""
    token = token_of(args.token_variable, needed=True)
    assert token is not None, "it was needed"
    return application(open_run(load_recipe(args.recipe), args.root), digest(token))
