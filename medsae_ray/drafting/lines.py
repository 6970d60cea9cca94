"""The lines of a drafted recipe: values in YAML, and guesses that never stand without their comment."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import yaml

from medsae_ray.config.yaml_file import GUESSED
from medsae_ray.errors import one_line

_PLAIN = re.compile(r"[A-Za-z_./][\w./ -]*")


class Found(NamedTuple):
    """The description of a place, as the parts of a recipe."""

    title: str
    dataset: list[str]
    """The lines of what.dataset."""
    paths: list[str]
    """The lines of how.paths, without the encoder's."""
    table: bytes | None = None
    """A table to write next to the recipe, if the dataset needs one and has none."""


def value(text: str) -> str:
    """Return a text in YAML."""
    plain = _PLAIN.fullmatch(text) and text == text.strip() and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def listed(texts: Sequence[str]) -> str:
    """Return a list of texts in YAML."""
    return f"[{', '.join(value(text) for text in texts)}]"


def guessed(line: str, why: str) -> str:
    """Return a line for the reader to confirm, with its reason."""
    return f"{line}    {GUESSED} {one_line(why)}"


def counted(number: int, noun: str) -> str:
    """Return a number of things: "1 image", "2,000 images"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
