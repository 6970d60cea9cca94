"""A drafted recipe's lines: values as YAML has them, and guesses that never stand without their comment."""

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import yaml

from medsae_ray.config.yaml_file import GUESSED
from medsae_ray.errors import one_line

_PLAIN = re.compile(r"[A-Za-z_./][\w./ -]*")


class Found(NamedTuple):
    """What is at a place, as the parts of a recipe."""

    title: str
    dataset: list[str]
    """Lines of what.dataset."""
    paths: list[str]
    """Lines of how.paths, without the encoder's."""
    table: bytes | None = None
    """A table that has to be written beside the recipe, because the dataset needs one and has none."""


def value(text: str) -> str:
    """A text as YAML reads it back."""
    plain = _PLAIN.fullmatch(text) and text == text.strip() and yaml.safe_load(text) == text
    return text if plain else json.dumps(text, ensure_ascii=False)


def listed(texts: Sequence[str]) -> str:
    """Several texts as YAML reads them back."""
    return f"[{', '.join(value(text) for text in texts)}]"


def guessed(line: str, why: str) -> str:
    """A line that is for the reader to confirm, and where it comes from."""
    return f"{line}    {GUESSED} {one_line(why)}"


def counted(number: int, noun: str) -> str:
    """A number of things: "1 image", "2,000 images"."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
