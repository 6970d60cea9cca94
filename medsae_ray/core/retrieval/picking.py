"""A model picks names from a numbered list for a query, as in SAIL; what it picks is checked against the query.

SAIL (github.com/pwesp/sail, scripts/evaluate_language_retrieval.py): three numbers as JSON, with priority to modality,
orientation, anatomy, region, demographics in this order. Here as many as fit, and what is excluded. A number outside
the list, or a pick that contradicts the query's negation, is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from medsae_ray.core.naming.engine import Writing
from medsae_ray.core.naming.plan import normalised_name
from medsae_ray.core.naming.reply import checked_line, json_object
from medsae_ray.core.retrieval.bm25 import NEGATED, tokens
from medsae_ray.core.retrieval.negation import QueryRefused, Wish
from medsae_ray.errors import NamingError

LISTED = 300
"""The most names of a list: a prompt has to hold it."""
TEMPERATURE, TOKENS = 0.1, 200
"""The decoding: SAIL's temperature."""
CONTROLS, LEAST_RIGHT = 3, 2
"""The names of the list that a model is asked for by themselves, and how many it has to find."""
INSTRUCTION = (
    "Below is a numbered list of concepts of medical images. A query asks for images. Give the numbers of the concepts "
    "that the images must show (want, {many}, the most important first: modality, then orientation, then anatomy, then "
    "region, then the patient), the numbers of those that they must not show because the query negates them (exclude), "
    "and the words of the query that no concept of the list says (unmet). A concept fits if it means what the query "
    "says, in whatever words. If none fits, leave the lists empty: nothing related instead. Answer in JSON."
)


class Entry(NamedTuple):
    """A name on the list, and the features that have it."""

    name: str
    definition: str | None
    features: tuple[int, ...]
    rejected: bool = False
    """The test of names rejected it for all of these features."""


class Picks(NamedTuple):
    """The places in the list, from 0, that a model picked."""

    want: tuple[int, ...]
    exclude: tuple[int, ...]
    unmet: tuple[str, ...]


def entries(rows: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Return the names of an atlas's rows, each once: verified ones first, then those of features active on more
    images. A feature that is active on no image has no entry."""
    named = [row for row in rows if row["name"] and row["n_active"] > 0]
    named.sort(key=lambda row: (row["verdict"] != "verified", -row["n_active"], row["feature"]))
    features: dict[str, list[Mapping[str, Any]]] = {}
    for row in named:
        features.setdefault(normalised_name(row["name"]), []).append(row)
    return [
        Entry(same[0]["name"], next((r["definition"] for r in same if r["definition"]), None),
              tuple(sorted(r["feature"] for r in same)), all(r["verdict"] == "rejected" for r in same))
        for same in features.values()
    ]  # fmt: skip


def picking_writing(listed: Sequence[Entry], query: str, most: int, exactly: bool, attempt: int) -> Writing:
    """Return the request: the instruction and the list first, so that their prefix is computed once."""
    number = {"type": "integer", "minimum": 1, "maximum": len(listed)}
    want: dict[str, Any] = {"type": "array", "items": number, "maxItems": most} | (
        {"minItems": most} if exactly else {}
    )
    properties = {
        "want": want,
        "exclude": {"type": "array", "items": number, "maxItems": 5},
        "unmet": {"type": "array", "items": {"type": "string", "maxLength": 40}, "maxItems": 5},
    }
    schema = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    lines = [f"{n}. {e.name}" + (f" - {e.definition}" if e.definition else "") for n, e in enumerate(listed, 1)]
    head = INSTRUCTION.format(many=f"exactly {most}" if exactly else f"at most {most}")
    return Writing(["\n".join([head, *lines]), f"Query: {query}"], schema, attempt, TEMPERATURE, TOKENS)


def parse_picks(text: str, listed: int, most: int, exactly: bool = False) -> Picks:
    """Return the picks of a reply. Raises NamingError for a number outside the list, twice, or on both sides."""
    reply = json_object(text)
    if set(reply) != {"want", "exclude", "unmet"}:
        raise NamingError(f"the reply has keys {sorted(reply)}, want, exclude and unmet are needed")
    want, exclude = (_numbers(reply[key], key, listed) for key in ("want", "exclude"))
    if both := set(want) & set(exclude):
        raise NamingError(f"the reply both wants and excludes {sorted(place + 1 for place in both)}")
    if len(want) > most or (exactly and len(want) != most):
        raise NamingError(f"the reply wants {len(want)} concepts, {most} are asked for")
    if not isinstance(reply["unmet"], list):
        raise NamingError("'unmet' is no list")
    return Picks(want, exclude, tuple(checked_line(word, "unmet") for word in reply["unmet"]))


def _numbers(values: Any, key: str, listed: int) -> tuple[int, ...]:
    if not isinstance(values, list) or any(isinstance(n, bool) or not isinstance(n, int) for n in values):
        raise NamingError(f"{key!r} is no list of whole numbers")
    if outside := [n for n in values if not 1 <= n <= listed]:
        raise NamingError(f"{key!r} has {outside[0]}, and the list has 1 to {listed}")
    if len(set(values)) < len(values):
        raise NamingError(f"{key!r} has a number twice")
    return tuple(n - 1 for n in values)


def check_picks(picks: Picks, wish: Wish, listed: Sequence[Entry]) -> None:
    """Raise QueryRefused if the picks contradict what the query says: no model decides what is negated."""
    absent = [place for place in picks.want if any(w.startswith(NEGATED) for w in tokens(listed[place].name))]
    if picks.exclude and not wish.excluded:
        raise QueryRefused(f"the model excludes {listed[picks.exclude[0]].name!r}, and the query excludes nothing")
    if wish.excluded and not picks.exclude and not absent:
        raise QueryRefused(f"nothing on the list stands for {wish.excluded[0]!r}, so it cannot be excluded")
    rejected = [place for place in picks.exclude if listed[place].rejected]
    if rejected and len(picks.exclude) - len(rejected) + len(absent) < len(wish.excluded):
        raise QueryRefused(f"the test rejected the name {listed[rejected[0]].name!r}, so it cannot be excluded")
    for place in picks.want:
        own = set(tokens(listed[place].name))
        if any((words := set(tokens(phrase))) and words <= own for phrase in wish.excluded):
            raise QueryRefused(f"the model wants {listed[place].name!r}, which the query excludes")
    if picks.want and not wish.wanted and len(absent) < len(picks.want):
        raise QueryRefused("the model wants something, and the query only excludes")


def control_places(listed: Sequence[Entry]) -> list[int]:
    """Return the entries by which a model is tried: it has to pick a name that is asked for literally."""
    plain = [p for p, e in enumerate(listed) if not any(w.startswith(NEGATED) for w in tokens(e.name))]
    drawn = np.random.default_rng(0).permutation(len(plain))[:CONTROLS]
    return [plain[place] for place in sorted(drawn.tolist())]
