"""An error of a recipe in one line that a user can act on: its place, the value found, the allowed ones."""

import reprlib
import types
from typing import Annotated, Any, Union, get_args, get_origin

from medsae_ray.config.base import keys_of
from medsae_ray.names import nearest

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 200
_LIMITS = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}


def explain(problem: Any, model: Any) -> str:
    """Explain one pydantic error in one line: its place, the value found, the allowed ones."""
    place, keys, constraints = _walk(problem["loc"], model)
    where = ".".join(place)
    if problem["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = nearest(place[-1], keys)
        hint = f"did you mean {near!r}?" if near else ""
        return f"{where}: unknown key; {hint or 'known keys are ' + ', '.join(sorted(keys))}"
    if problem["type"] == "missing":
        return f"{where}: is missing"
    if problem["type"] == "union_tag_not_found":
        return f"{where}.kind: is missing"
    if problem["type"] == "bool_type":
        constraints = "; allowed: true and false"
    found = "" if isinstance(problem["input"], dict) else f" (found {_SHORT.repr(problem['input'])}{constraints})"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where}: {message[0].lower()}{message[1:]}{found}" if where else f"{message}{found}"


def _walk(loc: tuple[int | str, ...], kind: Any) -> tuple[list[str], list[str], str]:
    """Follow an error's location through the models: the user's keys, the known keys, the allowed range."""
    place: list[str] = []
    keys: list[str] = []
    constraints = ""
    for step in loc:
        parts = [member for member in _members(kind) if keys_of(member)]
        tagged = [part for part in parts if _is_kind(part, step)]
        if len(parts) > 1 and tagged:
            kind = tagged[0]
            continue
        place.append(str(step))
        if isinstance(step, int):
            kind = next((get_args(m)[0] for m in _members(kind) if get_origin(m) is list), None)
            continue
        known = keys_of(parts[0]) if parts else {}
        keys, info = sorted(known), known.get(str(step))
        kind, limits = (info.annotation, info.metadata) if info else (None, [])
        named = [
            f"{n} {limit}" for m in limits for a, n in _LIMITS.items() if (limit := getattr(m, a, None)) is not None
        ]
        constraints = f"; allowed: {' and '.join(named)}" if named else ""
    return place, keys, constraints


def _is_kind(part: Any, step: int | str) -> bool:
    kind = keys_of(part).get("kind")
    return kind is not None and step in get_args(kind.annotation)


def _members(kind: Any) -> list[Any]:
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return [m for arg in get_args(kind) for m in _members(arg)]
    return [kind]
