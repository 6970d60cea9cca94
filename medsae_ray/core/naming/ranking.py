"""SAIL's naming of a feature, and the ranking of five names by a model: what is asked, and what an answer says.

SAIL (github.com/pwesp/sail, src/autointerp.py): a model names what five images share; then, from five images of other
patients, it ranks five names, the feature's and those of four others, in shuffled order. There it is shown each image's
metadata both times. Here there are three arms: images alone, metadata alone, and both.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from medsae_ray.core.naming.engine import Writing
from medsae_ray.core.naming.plan import normalised_name
from medsae_ray.core.naming.prompts import Content, prompt_hash
from medsae_ray.core.naming.reply import checked_line, json_object
from medsae_ray.errors import NamingError, one_line

Arm = Literal["images", "metadata", "both"]
LETTERS = "ABCDE"
RIVALS = len(LETTERS) - 1
PHRASE_WORDS = 20
NAMING_TEMPERATURE, NAMING_TOKENS = 0.3, 100
RANKING_TEMPERATURE, RANKING_TOKENS = 0.2, 50
"""The decoding of SAIL."""
_RIVALS, _LETTERS = 5, 6
"""The streams of random numbers; 0 to 3 are those of samples and control names."""

SHARED = {
    "images": "All of these medical images strongly activate one unit of a neural network.",
    "metadata": "Each entry describes a medical image that strongly activates one unit of a neural network.",
    "both": "All of these medical images strongly activate one unit of a neural network. Each follows its description.",
}
NAMING = (
    "Name the one concept that all of them share and that the unit may stand for: one phrase, no sentence. It is about "
    "the unit, not about a single image. State a body region, view or group of patients only if all share it, and "
    "name no disease that is not shown. Answer in JSON."
)
RANKING = (
    "Rank the five candidate names below by how well each describes what all of them share, the best first, by their "
    "letters. Answer in JSON."
)


class Exhibit(NamedTuple):
    """An image as a model is shown it."""

    png: bytes
    metadata: str
    """Its metadata in words; empty if there is none."""
    value: float | None = None
    """The feature's activation, shown with the metadata if it is known."""


class Task(NamedTuple):
    """Five names in the order of their letters."""

    names: tuple[str, ...]
    truth: int
    """The place of the true one."""

    @property
    def order(self) -> list[str]:
        """The names, each behind its letter."""
        return [f"{letter}: {name}" for letter, name in zip(LETTERS, self.names, strict=True)]


def described(values: Mapping[str, str | None]) -> str:
    """Write metadata on one line, without what is unknown: "sex: F; age: 63"."""
    known = ((one_line(name), one_line(value)) for name, value in values.items() if value and value.strip())
    return "; ".join(f"{name}: {value}" for name, value in known)


def exhibited(exhibits: Sequence[Exhibit], arm: Arm) -> list[Content]:
    """Return the parts of a message that show images, or their metadata, or both."""
    parts: list[Content] = [SHARED[arm]]
    for number, exhibit in enumerate(exhibits, 1):
        if arm != "images":
            said = exhibit.metadata or "nothing is known"
            said += f"; activation: {exhibit.value:.3f}" if exhibit.value is not None else ""
            parts.append(f"Image {number}: {said}")
        if arm != "metadata":
            parts.append(exhibit.png)
    return parts


def naming_writing(exhibits: Sequence[Exhibit], arm: Arm, seed: int) -> Writing:
    """Return the request for a name."""
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 1, "maxLength": 100}},
        "required": ["name"],
        "additionalProperties": False,
    }
    return Writing([*exhibited(exhibits, arm), NAMING], schema, seed, NAMING_TEMPERATURE, NAMING_TOKENS)


def ranking_writing(exhibits: Sequence[Exhibit], arm: Arm, task: Task, seed: int) -> Writing:
    """Return the request for a ranking: what is shown comes first, so that its prefix is computed once."""
    letter = {"type": "string", "enum": list(LETTERS)}
    places = {"type": "array", "items": letter, "minItems": len(LETTERS), "maxItems": len(LETTERS)}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"ranking": places},
        "required": ["ranking"],
        "additionalProperties": False,
    }
    shown = [exhibit._replace(value=None) for exhibit in exhibits]
    parts = [*exhibited(shown, arm), "\n".join([RANKING, *task.order])]
    return Writing(parts, schema, seed, RANKING_TEMPERATURE, RANKING_TOKENS)


def parse_phrase(text: str) -> str:
    """Return the name in a reply. Raises NamingError with what is wrong."""
    reply = json_object(text)
    if set(reply) != {"name"}:
        raise NamingError(f"the reply has keys {sorted(reply)}, only 'name' is needed")
    name = checked_line(reply["name"], "name").strip(" .")
    if not normalised_name(name):
        raise NamingError("the name is empty")
    if (words := len(name.split())) > PHRASE_WORDS:
        raise NamingError(f"the name has {words} words, {PHRASE_WORDS} are allowed")
    return name


def parse_ranking(text: str) -> str:
    """Return the letters of a reply, best first: JSON, or the letters and nothing but marks between them.

    Raises NamingError if it is not a ranking of all five. Nothing is guessed from words around letters.
    """
    try:
        reply: Any = json.loads(text)
    except (ValueError, RecursionError):
        reply = text
    if isinstance(reply, dict) and set(reply) == {"ranking"}:
        reply = reply["ranking"]
    if isinstance(reply, list) and all(isinstance(letter, str) for letter in reply):
        reply = " ".join(reply)
    if not isinstance(reply, str):
        raise NamingError("the reply is no ranking")
    letters = re.sub(r"[\s,;>()\[\]\"']|(?<![\w.])[1-5][.:)]", "", reply).upper()
    if sorted(letters) != list(LETTERS):
        raise NamingError(f"the reply ranks {letters!r:.40}, and not each of {LETTERS} once")
    return letters


def rivals(name_of: Mapping[int, str], feature: int, seed: int) -> list[int] | None:
    """Draw four other features whose names differ from the feature's own and from each other, but for case and marks;
    None if there are not so many."""
    used = {normalised_name(name_of[feature])}
    others, chosen = sorted(set(name_of) - {feature}), list[int]()
    for place in np.random.default_rng([seed, feature, _RIVALS]).permutation(len(others)):
        if (name := normalised_name(name_of[others[place]])) not in used:
            used.add(name)
            chosen.append(others[place])
        if len(chosen) == RIVALS:
            return chosen
    return None


def shuffled(name: str, others: Sequence[str], feature: int, seed: int) -> Task:
    """Shuffle the true name among others: one order for each feature, the same in every arm."""
    order = np.random.default_rng([seed, feature, _LETTERS]).permutation(len(LETTERS))
    names = [name, *others]
    return Task(tuple(names[place] for place in order), int(np.flatnonzero(order == 0)[0]))


def rank_of(letters: str, task: Task) -> int:
    """Return the rank of the true name, 1 for the best."""
    return letters.index(LETTERS[task.truth]) + 1


def prompt() -> str:
    """Return the identity of both prompts: another wording or decoding is another address."""
    none = Task(tuple(LETTERS), 0)
    decoding = (NAMING_TEMPERATURE, NAMING_TOKENS, RANKING_TEMPERATURE, RANKING_TOKENS)
    return prompt_hash(SHARED, NAMING, RANKING, none.order, decoding)
