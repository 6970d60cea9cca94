"""The survey of a place, and a first recipe for it."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.fs as pafs
import yaml

from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.config.yaml_file import guesses
from medsae_ray.core.artifacts.store import Store, split_uri
from medsae_ray.drafting.folders import of_folder
from medsae_ray.drafting.layouts import known_layout
from medsae_ray.drafting.lines import Found, counted
from medsae_ray.drafting.tables import of_table
from medsae_ray.drafting.template import recipe_text
from medsae_ray.errors import RecipeError


class Drafted(NamedTuple):
    """The result of drafting."""

    files: list[Path]
    """The files written: the recipe, and perhaps a table."""
    found: str
    """The findings, in a line."""
    guesses: int
    """The number of lines to confirm."""


def draft_recipe(place: str, output: Path) -> Drafted:
    """Write a first recipe for a folder or table to `output`, and next to it a table if the dataset lacks one.

    Raises DatasetError for a place without images, or a table that is no dataset, and RecipeError for an existing file.
    Nothing is written then.
    """
    found = look_at(place)
    table = output.with_name(f"{output.stem}-images.csv") if found.table else None
    for file in filter(None, (output, table)):
        if file.exists():
            raise RecipeError(f"{file} exists already; name another file with -o, or remove it")
    text = recipe_text(found, Store(place).uri, output.name, table.name if table else None)
    # A recipe may misread a path, and a reader may refuse a table.
    recipe = parse_recipe(yaml.safe_load(text), f"the draft for {place}")
    said = ", ".join(_of_new(found.table) if found.table else _counts(recipe))
    _write(output, text.encode())
    if table and found.table:
        _write(table, found.table)
    return Drafted([file for file in (output, table) if file], said, guesses(output))


def look_at(place: str) -> Found:
    """Identify a place: a known dataset by its files' names, else a table or a folder."""
    whole = Store(place)
    kind = whole.info().type
    if kind == pafs.FileType.NotFound:
        raise RecipeError(
            f"{whole.uri} is neither a folder nor a file; give a folder of images or a CSV or Parquet table"
        )
    if kind == pafs.FileType.Directory:
        return known_layout(whole, None) or of_folder(whole)
    folder, name = split_uri(whole.uri)
    return known_layout(folder, name) or of_table(folder, name)


def _write(file: Path, data: bytes) -> None:
    try:
        with file.open("xb") as stream:
            stream.write(data)
    except OSError as error:
        raise RecipeError(f"{file} cannot be written: {error.strerror}") from error


def _of_new(table: bytes) -> Iterator[str]:
    """Describe a table that was made for a folder."""
    yield "table"
    yield counted(table.count(b"\n") - 1, "image")
    yield "patients not known"


def _counts(recipe: Recipe) -> Iterator[str]:
    """Describe the recipe's dataset as its reader finds it."""
    (source,) = recipe.what.sources
    yield source.kind
    if source.reads_all:
        return
    rows = source.rows(recipe.paths_of(source))
    yield counted(len(rows.image_id), "image")
    yield counted(len(set(rows.patient_id)), "patient") if rows.patients_known else "patients not known"
    yield counted(len(rows.labels), "label")
