"""What a recipe of a paper needs: its data and weights, and where to get those that are missing."""

from typing import Literal, TypedDict

from medsae_ray.config import Paths, Recipe
from medsae_ray.core.encoders.hub import is_id
from medsae_ray.core.papers.published import Need, load
from medsae_ray.preflight.equipment import FILE, look


class NeedState(TypedDict):
    """One of the paper's needs, and whether it is there."""

    what: str
    key: str
    """The recipe's key for its place."""
    given: str | None
    """The recipe's value."""
    state: Literal["there", "missing", "fetched"]
    """`fetched`: an id or address that is read when it is first needed."""
    files: str
    page: str
    access: str
    size: str


class PaperPlan(TypedDict):
    """The paper of a recipe, for a plan."""

    title: str
    figures: int
    """The published figures, each with a row on the run's page."""
    images: int
    """The images of the paper's datasets."""
    needs: list[NeedState]


def paper_plan(recipe: Recipe) -> PaperPlan | None:
    """Return what the recipe's paper needs; None without one. Only files and folders are looked for."""
    if recipe.paper is None:
        return None
    paper = load(recipe.paper)
    needs = [_state(recipe, need) for need in paper.needs]
    return PaperPlan(title=paper.title, figures=len(paper.figures), images=paper.images, needs=needs)


def paper_dimensions(recipe: Recipe) -> int | None:
    """Return the dimensions of the encoder that the recipe's paper has; None if it is not one of the paper's."""
    if recipe.paper is None:
        return None
    found = load(recipe.paper).dimensions
    return found if isinstance(found, int) else found.get(recipe.what.encoder.kind)


def _state(recipe: Recipe, need: Need) -> NeedState:
    key, given = _given(recipe, need.path)
    afar = given is not None and (is_id(given) or given.startswith(("http:", "https:", "builtin:")))
    state: Literal["there", "missing", "fetched"] = "fetched" if afar else "missing"
    if given and not afar and look([(FILE, given)]) == [""]:
        state = "there"
    return {
        "what": need.what,
        "key": key,
        "given": given,
        "state": state,
        "files": need.files,
        "page": need.page,
        "access": need.access,
        "size": need.size,
    }


def _given(recipe: Recipe, path: str) -> tuple[str, str | None]:
    """Return a key of the recipe, and the place that it names."""
    paths, vlm = recipe.how.paths, recipe.how.vlm
    if path == "vlm":
        return "how.vlm.model", (vlm.url or vlm.model) if vlm else None
    *datasets, key = path.split(".")
    own = paths.datasets.get(datasets[-1], Paths()) if datasets else paths
    published = recipe.what.encoder.published if path == "weights" else None
    return f"how.paths.{path}", getattr(own, key) or published
