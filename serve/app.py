"""The service for `serve deploy serve/config.yaml`."""

from pydantic import BaseModel, ConfigDict
from ray.serve import Application

from medsae_ray.config import load_recipe
from medsae_ray.service.command import token_of
from medsae_ray.service.deployment import application
from medsae_ray.service.finished import open_run
from medsae_ray.service.guard import digest


class Arguments(BaseModel):
    """What config.yaml says under `args`."""

    model_config = ConfigDict(extra="forbid")

    recipe: str
    """A YAML file on the cluster's head node, or the name of a recipe that comes with the package."""
    root: str
    """Where the finished run lies: a path or URI that every node can read."""
    token_variable: str = "MEDSAE_TOKEN"
    """Environment variable, on the cluster, with the token that callers send. The address is Serve's to choose, so
    there is no service without one here."""


def build(args: Arguments) -> Application:
    """Raises ArtifactError if the run is not finished, RecipeError if there is no token."""
    token = token_of(args.token_variable, needed=True)
    assert token is not None, "it was needed"
    return application(open_run(load_recipe(args.recipe), args.root), digest(token))
