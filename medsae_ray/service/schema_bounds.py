"""The JSON schemas that a chat's answer may be asked to fit: the keywords that are taken, and how much of each.

The engine turns a schema into a grammar before it computes anything, for every caller in the same process. Some schemas
of a hundred bytes take it seconds: repetitions of repetitions, and intersections, whose alternatives multiply. So only
keywords of known cost are taken, and no two schemas are intersected.
"""

from collections.abc import Iterator
from typing import Any

from medsae_ray.service.errors import Problem

DEEPEST = 32
"""The most levels of schemas in schemas."""
PROPERTIES = 256
"""The most properties, counted over the whole schema."""
SCHEMAS = 1024
"""The most schemas within the schema."""
ITEMS = 10_000
"""The most items that all bounds of lists may add up to, where one list in another multiplies."""
EXPRESSIONS = 64
"""The most schemas with a format, a pattern or bounds of a number: each becomes an expression, which costs up to half a
millisecond, and all callers wait for it."""
CHARACTERS = 100_000
"""The largest bound of a text's length, of a list or of an object."""
STEP = 100
"""The largest `multipleOf`: its automaton has as many states."""

NOTES = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "discriminator"}
NOTES |= {"$schema", "$id", "$comment"}
"""The keywords that say something and bind nothing."""
MANY = ("properties", "$defs", "definitions")
LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
ONE = ("items", "additionalProperties")
COUNTS = ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties")
CHOICES = {"anyOf", "oneOf", "allOf", "$ref"}
SIMPLE = {"type", "enum", "const", "required", "multipleOf"}
EXPRESSED = {"format", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
TAKEN = NOTES | CHOICES | SIMPLE | EXPRESSED | {*MANY, *LISTS, *ONE, *COUNTS}
BESIDE = NOTES | {"type", "$defs", "definitions"}
"""The keywords that may stand beside one of `CHOICES`: any other would be an intersection with it."""

MOST = {
    "schemas": SCHEMAS,
    "properties": PROPERTIES,
    "items": ITEMS,
    "formats, patterns and bounded numbers": EXPRESSIONS,
}
"""What is counted over the whole schema, and how much of each is taken."""

Part = tuple[str, Any]
"""A part of a schema with its place."""


def check_schema(schema: Any, where: str) -> None:
    """Raise Problem for a schema that is not taken, or is too much for the engine."""
    totals = dict.fromkeys(MOST, 0)
    _check(schema, where, 1, DEEPEST, totals)


def _check(schema: Any, where: str, times: int, depth: int, totals: dict[str, int]) -> None:
    """Check a schema that stands below lists of `times` items in all, and those in it."""
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _invalid("a schema is an object, true or false", where)
    if not depth:
        raise _invalid(f"schemas are nested more than {DEEPEST} levels deep", where)
    _check_keywords(schema, where)
    items = _items(schema)
    times *= items
    totals["schemas"] += 1
    totals["properties"] += len(schema.get("properties", ()))
    totals["items"] += times if items > 1 else 0
    totals["formats, patterns and bounded numbers"] += bool(EXPRESSED & set(schema))
    for name, most in MOST.items():
        if totals[name] > most:
            raise _invalid(f"a schema may have {most} {name} in all, where lists in lists multiply", where)
    for place, part in _parts(schema, where):
        _check(part, place, times, depth - 1, totals)


def _check_keywords(schema: dict[str, Any], where: str) -> None:
    if unknown := sorted(set(schema) - TAKEN):
        raise _invalid("this keyword of JSON Schema is not taken", f"{where}.{unknown[0]}")
    for name in COUNTS:
        if not _is_count(schema.get(name, 0)):
            raise _invalid(f"a whole number from 0 to {CHARACTERS} is taken", f"{where}.{name}")
    step = schema.get("multipleOf", 1)
    if not isinstance(step, int | float) or not 0 < step <= STEP:
        raise _invalid(f"a number above 0 and up to {STEP} is taken", f"{where}.multipleOf")
    choices = sorted(CHOICES & set(schema))
    if choices and (len(choices) > 1 or set(schema) - BESIDE - CHOICES):
        raise _invalid(f"beside {choices[0]} only notes are taken: write one schema that says all", where)
    if len(_listed(schema.get("allOf", []))) > 1:
        raise _invalid("allOf takes one schema: write one that says all", f"{where}.allOf")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= CHARACTERS


def _items(schema: dict[str, Any]) -> int:
    """Return how often the items of a list may be written out in a grammar."""
    return max(1, int(schema.get("minItems", 0)), int(schema.get("maxItems", 0)))


def _parts(schema: dict[str, Any], where: str) -> Iterator[Part]:
    for key in MANY:
        named = schema.get(key, {})
        if not isinstance(named, dict):
            raise _invalid("an object of schemas is taken", f"{where}.{key}")
        yield from ((f"{where}.{key}.{name}", part) for name, part in named.items())
    for key in LISTS:
        yield from ((f"{where}.{key}[{i}]", part) for i, part in enumerate(_listed(schema.get(key, []))))
    for key in ONE:
        if key in schema:
            yield f"{where}.{key}", schema[key]


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _invalid(message: str, where: str) -> Problem:
    return Problem(422, "invalid_schema", message, where)
