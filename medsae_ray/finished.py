"""A finished run, opened for reading by the service, by queries and by the browser."""

from dataclasses import dataclass

from rich.console import Console

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.browser.access import Access
from medsae_ray.core.browser.site import Site
from medsae_ray.core.retrieval.query import Library
from medsae_ray.errors import ArtifactError
from medsae_ray.outputs.browser import MAP, browser_data
from medsae_ray.pipeline import STAGES, goals_of
from medsae_ray.runtime.run import Run
from medsae_ray.stages.vocabulary_names import listener

BESIDE = ("likeness", "feature_map")
"""The stages that are of use here and may be missing: a run of an earlier version has none of them."""


@dataclass(frozen=True)
class Finished:
    """The artifacts of one recipe up to its atlas, and those of `BESIDE` that are made. It is cheap to send to another
    process."""

    recipe: Recipe
    artifacts: dict[str, Artifact]
    root: str
    images: Access = "all"
    """The images that readers of the browser see."""

    @property
    def sae(self) -> Artifact:
        """The artifact of the trained SAE."""
        return self.artifacts["sae"]

    @property
    def atlas(self) -> Artifact:
        """The artifact of the atlas."""
        return self.artifacts["atlas"]

    @property
    def likeness(self) -> Artifact | None:
        """The artifact that tells which images are unlike the run."""
        return self.artifacts.get("likeness")

    @property
    def has_engine(self) -> bool:
        """True if the recipe names features with a vision-language model."""
        return self.recipe.what.naming is not None and self.recipe.how.vlm is not None


def open_run(recipe: Recipe, root: str) -> Finished:
    """Open the run of `recipe` below `root` (a path or URI) without making anything.

    Raises ArtifactError that names the first missing artifact and the command that makes it.
    """
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        found: dict[str, Artifact] = {}
        _collect(run, "atlas", found)
        found |= {name: made for name in BESIDE if (made := run.committed(name)) is not None}
        return Finished(recipe, found, root)


def open_site(recipe: Recipe, root: str, images: Access = "all") -> Site:
    """Open the browser of the run of `recipe` below `root`, with `images` as readers may see them.

    Raises ArtifactError that names the first missing artifact and the command that makes it.
    """
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        found: dict[str, Artifact] = {}
        goals = [goal for goal in goals_of(recipe) if goal != MAP]  # the site does without
        for goal in goals:
            _collect(run, goal, found)
        for goal in goals:
            run.artifact(goal)  # it is there; its warnings are collected
        return Site(browser_data(run, images))


def library_of(run: Finished) -> Library:
    """Return the library that answers queries to a finished run. EncoderError if its text half cannot be loaded."""
    return Library(run.artifacts, listener(run.recipe, run.artifacts))


def _collect(run: Run, name: str, found: dict[str, Artifact]) -> None:
    """Collect an artifact after its parents, so that an error names the first missing one."""
    for parent in run.stages[name].parents(run.recipe):
        if parent not in found:
            _collect(run, parent, found)
    artifact = run.committed(name)
    if artifact is None:
        raise ArtifactError(
            f"{run.root.uri} has no finished {name}, which is needed here; "
            f"make it with: medsae run RECIPE --root {run.root.uri}"
        )
    found[name] = artifact
