"""A recipe: a YAML file read into frozen models, split into *what* (hashed) and *how* (never hashed).

`what` changes the result: dataset, encoder, SAE, seeds. `how` changes at most the speed: workers, batches, addresses,
and the places of files (a file's identity is its content, not its path).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator

from medsae_ray.config.base import Model
from medsae_ray.config.changes import Change, changed
from medsae_ray.config.explain import explain
from medsae_ray.config.how import How, Paths
from medsae_ray.config.what import What
from medsae_ray.config.yaml_file import read_yaml
from medsae_ray.core.datasets import Dataset
from medsae_ray.core.encoders.torch_encoder import TorchOptions
from medsae_ray.core.papers.published import PaperName
from medsae_ray.errors import RecipeError

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|builtin:|file:/")


class Recipe(Model):
    """The settings of one run."""

    name: str
    """Title of the report."""
    paper: PaperName | None = None
    """Paper whose published figures the run sets beside its own, in papers.html and summary.json. It changes no
    result."""
    what: What
    how: How = How()

    @model_validator(mode="after")
    def _paths_fit(self) -> Self:
        for source in self.what.sources:
            for key in source.needs:
                if not getattr(self.paths_of(source), key):
                    place = key if self.what.dataset else f"datasets.{source.name}.{key}"
                    raise ValueError(f"a {source.kind} dataset needs how.paths.{place}: {_purpose(key)}")
        if strange := sorted(set(self.how.paths.datasets) - {source.name for source in self.what.sources}):
            raise ValueError(f"how.paths.datasets names {strange[0]!r}, which what.datasets does not have")
        encoder = self.what.encoder
        if encoder.needs and not self.how.paths.weights:
            raise ValueError(f"encoder {encoder.kind} needs how.paths.weights, {encoder.needs}")
        if self.what.naming and not self.how.vlm:
            raise ValueError("what.naming needs how.vlm, the vision-language model that gives and tests the names")
        second = self.what.monosemanticity.encoder
        if second and second.needs and not self.how.paths.second_weights:
            raise ValueError(f"what.monosemanticity.encoder needs how.paths.second_weights, {second.needs}")
        if self.how.paths.second_weights and not second:
            raise ValueError("how.paths.second_weights is for what.monosemanticity.encoder, which this recipe lacks")
        if self.what.recovery.random_weights is not None and not isinstance(encoder, TorchOptions):
            raise ValueError(
                f"what.recovery.random_weights draws the weights of an encoder in torch, and {encoder.kind} is none"
            )
        return self

    @model_validator(mode="after")
    def _vocabulary_fits(self) -> Self:
        encoder, vocabulary, paths = self.what.encoder, self.what.vocabulary, self.how.paths
        if vocabulary is None:
            if given := [key for key in ("vocabulary", "tokenizer") if getattr(paths, key)]:
                raise ValueError(f"how.paths.{given[0]} is for what.vocabulary, which this recipe does not have")
            return self
        if not encoder.has_text:
            raise ValueError(f"what.vocabulary needs an encoder with a text half (medclip), {encoder.kind} has none")
        if getattr(encoder, "random_weights", None) is not None:
            raise ValueError("what.vocabulary needs the trained encoder; leave out what.encoder.random_weights")
        if (paths.weights or "").startswith("builtin:"):
            raise ValueError(f"what.vocabulary needs weights with a text half, {paths.weights} has none")
        if vocabulary.terms and paths.vocabulary:
            raise ValueError("what.vocabulary.terms and how.paths.vocabulary both give the terms; leave one out")
        return self

    def paths_of(self, source: Dataset) -> Paths:
        """Return the paths of the files of one of the run's datasets."""
        return self.how.paths if self.what.dataset else self.how.paths.datasets.get(source.name, Paths())


def _purpose(key: str) -> str:
    """Return the purpose of a path, from its field's documentation."""
    return (Paths.model_fields[key].description or "").rstrip(".")


def load_recipe(path: str | Path, changes: Sequence[Change] = ()) -> Recipe:
    """Read a recipe; `path` is a file or the name of one that comes with the package ("phantom").

    `changes` are single values that override the file's. Raises RecipeError that names every wrong key, its value and
    the allowed ones.
    """
    file = find_recipe(str(path))
    said = ", ".join(change.key for change in changes)
    recipe = parse_recipe(changed(read_yaml(file), changes), f"{file} with another {said}" if said else str(file))
    return _absolute_paths(recipe, file.resolve().parent)


def parse_recipe(data: dict[str, Any], where: str = "recipe") -> Recipe:
    """Make a recipe from plain data; raises RecipeError like `load_recipe`."""
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        lines = [f"  {explain(problem, Recipe)}" for problem in error.errors()]
        raise RecipeError("\n".join([f"{where}:", *lines])) from error


def find_recipe(name: str) -> Path:
    """Return the file of that name, or else of the packaged recipe. RecipeError if there is neither."""
    packaged = packaged_recipes()
    if Path(name).is_file():
        return Path(name)
    if name in packaged:
        return packaged[name]
    raise RecipeError(f"no recipe {name!r}: neither a file nor one of {', '.join(packaged)}")


def packaged_recipes() -> dict[str, Path]:
    """Return the recipes that come with the package, by name."""
    files = (Path(__file__).parents[1] / "recipes").glob("*.yaml")
    return {file.stem: file for file in sorted(files, key=lambda file: file.stem)}


def _absolute_paths(recipe: Recipe, base: Path) -> Recipe:
    file = recipe.how.id_key.file
    id_key = recipe.how.id_key.model_copy(update={"file": file and _absolute(file, base)})
    second = recipe.what.monosemanticity.encoder
    takes = {"weights": recipe.what.encoder.takes_ids, "second_weights": bool(second and second.takes_ids)}
    paths = _paths(recipe.how.paths, base, {"tokenizer", *(key for key, ids in takes.items() if ids)})
    return recipe.model_copy(update={"how": recipe.how.model_copy(update={"paths": paths, "id_key": id_key})})


def _paths(paths: Paths, base: Path, id_keys: set[str]) -> Paths:
    given = paths.model_dump(exclude_none=True, exclude={"datasets"})
    found = {key: _absolute(value, base, may_be_id=key in id_keys) for key, value in given.items()}
    datasets = {name: _paths(inner, base, id_keys) for name, inner in paths.datasets.items()}
    return paths.model_copy(update={**found, "datasets": datasets})


def _absolute(value: str, base: Path, *, may_be_id: bool = False) -> str:
    """Resolve a relative path from `base`; keep URIs, and Hugging Face ids that are no file or folder there."""
    is_id = may_be_id and value.count("/") == 1 and value[0] not in "./~" and not (base / value).exists()
    return value if _URI.match(value) or is_id else str((base / value).resolve())
