"""The changes of single values of a recipe, given on the command line: what.sae.k=16."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from medsae_ray.config.yaml_file import read_value
from medsae_ray.errors import RecipeError

_OF_FILES = ("how.paths", "how.id_key.file")
"""The keys whose values are paths."""


class Change(NamedTuple):
    """The change of one value."""

    key: str
    """The keys to the value, joined by dots: what.sae.k."""
    value: Any


def read_change(text: str) -> Change:
    """Read KEY=VALUE, whose value is YAML. RecipeError for another text."""
    key, divided, value = text.partition("=")
    key = key.strip()
    if not divided or not all(key.split(".")):
        raise RecipeError(f"{text!r} is not KEY=VALUE with dots between the keys, as what.sae.k=16")
    return Change(key, read_value(value, key))


def changed(data: Mapping[str, Any], changes: Iterable[Change]) -> dict[str, Any]:
    """Return a recipe's data with `changes` applied in order; `data` itself stays as it is.

    RecipeError for a key below a value without keys; the recipe refuses unknown keys.
    """
    found = dict(data)
    for change in changes:
        is_path = any(change.key == key or change.key.startswith(f"{key}.") for key in _OF_FILES)
        value = _from_here(change.value) if is_path else change.value
        found = _with(found, change.key.split("."), value, change.key)
    return found


def _with(data: Mapping[str, Any], keys: list[str], value: Any, whole: str) -> dict[str, Any]:
    first, *rest = keys
    if not rest:
        return {**data, first: value}
    inner = data.get(first)
    if inner is not None and not isinstance(inner, dict):
        place = whole.removesuffix(f".{'.'.join(rest)}")
        found = "a list" if isinstance(inner, list) else repr(inner)
        raise RecipeError(f"{whole} cannot be set: {place} is {found} and has no keys; give all of it, {place}=...")
    return {**data, first: _with(inner or {}, rest, value, whole)}


def _from_here(value: Any) -> Any:
    """Resolve relative paths from the working folder: a shell completes them there, and a packaged recipe's own
    folder holds no data. A value that is no file or folder here may be a Hugging Face id and stays as it is."""
    if isinstance(value, dict):
        return {key: _from_here(inner) for key, inner in value.items()}
    if not isinstance(value, str) or "://" in value or value[:1] in ("", "/", "~", "$") or value.startswith("builtin:"):
        return value
    id_like = value.count("/") == 1 and not value.startswith(".")
    here = Path(value)
    return value if id_like and not here.exists() else os.path.abspath(here)
