"""A finished run, opened for reading: what the service answers from."""

from dataclasses import dataclass

from rich.console import Console

from medsae_ray.config import Recipe
from medsae_ray.core.artifact import Artifact
from medsae_ray.core.storage import Store
from medsae_ray.errors import ArtifactError
from medsae_ray.stages.pipeline import STAGES
from medsae_ray.stages.run import Run


@dataclass(frozen=True)
class Finished:
    """The artifacts of one recipe that the service needs. Cheap to send to another process."""

    recipe: Recipe
    sae: Artifact
    atlas: Artifact

    @property
    def has_engine(self) -> bool:
        """Whether the recipe names features with a vision-language model."""
        return self.recipe.what.naming is not None and self.recipe.how.vlm is not None


def open_run(recipe: Recipe, root: str) -> Finished:
    """Open the run of `recipe` below `root` (a path or URI), making nothing.

    Raises ArtifactError that names the first artifact that is not there and the command that makes it.
    """
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        return Finished(recipe, _finished(run, "sae"), _finished(run, "atlas"))


def _finished(run: Run, name: str) -> Artifact:
    """Parents are looked at first, so the one that is named is the first that is missing."""
    for parent in run.stages[name].parents(run.recipe):
        _finished(run, parent)
    artifact = run.committed(name)
    if artifact is None:
        raise ArtifactError(
            f"{run.root.uri} has no finished {name}, which the service needs; "
            f"make it with: medsae run RECIPE --root {run.root.uri}"
        )
    return artifact
