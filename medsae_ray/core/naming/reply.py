"""The parsing of a written reply to a checked `Name`. The text comes from a model and is not trusted."""

import json
import re
from dataclasses import dataclass
from typing import Any

from medsae_ray.core.naming.prompts import (
    CATEGORIES,
    DEFINITION_WORDS,
    LATERALITIES,
    NAME_WORDS,
    OTHER_NAMES,
    naming_schema,
)
from medsae_ray.errors import NamingError, one_line

CONFIDENCES = ("low", "medium", "high")
_TOKEN = re.compile(r"<[A-Za-z_/|][\w/|]*>")
"""The control tokens of a chat template, as <end_of_turn>; a name becomes part of other prompts."""


@dataclass(frozen=True)
class Name:
    """A model's statement on a feature's images. All text is on one line; `name` is empty only if it abstains."""

    name: str
    definition: str
    category: str
    location: str
    laterality: str
    fraction_of_a: float
    alternatives: tuple[str, ...]
    confidence: str
    abstain: bool
    per_image: tuple[str, ...]
    shared_in_a: tuple[str, ...]
    absent_in_b: tuple[str, ...]


def parse_name(text: str, n_a: int) -> Name:
    """Return the name in a reply about a group A of `n_a` images. Raises NamingError with the schema's violation."""
    reply = json_object(text)
    _check_keys(set(reply))
    name = Name(
        name=_text(reply, "name"),
        definition=_text(reply, "definition"),
        category=_choice(reply, "category", CATEGORIES),
        location=_text(reply, "location"),
        laterality=_choice(reply, "laterality", LATERALITIES),
        fraction_of_a=_fraction(reply, "fraction_of_a"),
        alternatives=_texts(reply, "alternatives", 0, OTHER_NAMES),
        confidence=_choice(reply, "confidence", CONFIDENCES),
        abstain=_flag(reply, "abstain"),
        per_image=_texts(reply, "per_image", n_a, n_a),
        shared_in_a=_texts(reply, "shared_in_a", 0, 4),
        absent_in_b=_texts(reply, "absent_in_b", 0, 4),
    )
    if not name.name and not name.abstain:
        raise NamingError("the name is empty but the reply does not abstain")
    _check_words("name", name.name, NAME_WORDS)
    _check_words("definition", name.definition, DEFINITION_WORDS)
    return name


def json_object(text: str) -> dict[str, Any]:
    """Return the JSON object of a reply. Raises NamingError if it is none, or a key comes twice."""
    try:
        reply = json.loads(text, object_pairs_hook=_distinct)
    except (ValueError, RecursionError) as error:
        raise NamingError(f"the reply is not JSON: {error}") from None
    if not isinstance(reply, dict):
        raise NamingError(f"the reply is a JSON {type(reply).__name__}, an object is needed")
    return reply


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if twice := sorted({key for key in keys if keys.count(key) > 1}):
        raise ValueError(f"keys {twice} come twice")
    return dict(pairs)


def _check_keys(found: set[str]) -> None:
    expected = set(naming_schema(1)["required"])  # type: ignore[call-overload]
    if missing := sorted(expected - found):
        raise NamingError(f"the reply lacks {missing}")
    if unknown := sorted(found - expected):
        raise NamingError(f"the reply has unknown keys {unknown}")


def _text(reply: dict[str, Any], key: str) -> str:
    return checked_line(reply[key], key)


def checked_line(value: object, where: str) -> str:
    """Return a text of a reply on one line. Raises NamingError for another type, or a control token."""
    if not isinstance(value, str):
        raise NamingError(f"{where!r} holds a {type(value).__name__}, text is needed")
    if token := _TOKEN.search(value):
        raise NamingError(f"{where!r} holds the control token {token.group()!r}")
    return one_line(value)


def _texts(reply: dict[str, Any], key: str, least: int, most: int) -> tuple[str, ...]:
    values = reply[key]
    if not isinstance(values, list):
        raise NamingError(f"{key!r} is a {type(values).__name__}, a list is needed")
    if not least <= len(values) <= most:
        wanted = f"{least}" if least == most else f"{least} to {most}"
        raise NamingError(f"{key!r} has {len(values)} entries, {wanted} are needed")
    return tuple(checked_line(value, key) for value in values)


def _choice(reply: dict[str, Any], key: str, choices: tuple[str, ...]) -> str:
    value = reply[key]
    if not isinstance(value, str) or value not in choices:
        raise NamingError(f"{key!r} is {value!r:.60}, one of {list(choices)} is needed")
    return value


def _fraction(reply: dict[str, Any], key: str) -> float:
    value = reply[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise NamingError(f"{key!r} is a {type(value).__name__}, a number is needed")
    if not 0 <= value <= 1:
        raise NamingError(f"{key!r} is {value}, 0 to 1 is allowed")
    return float(value)


def _flag(reply: dict[str, Any], key: str) -> bool:
    value = reply[key]
    if not isinstance(value, bool):
        raise NamingError(f"{key!r} is a {type(value).__name__}, true or false is needed")
    return value


def _check_words(key: str, text: str, most: int) -> None:
    if (words := len(text.split())) > most:
        raise NamingError(f"the {key} has {words} words, {most} are allowed")
