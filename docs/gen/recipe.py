"""The keys of a recipe, from the models and dataclasses that it is made of and the docstrings of their fields."""

import ast
import inspect
import json
from itertools import pairwise
from typing import Any, get_args

from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from medsae_ray.config import Recipe
from medsae_ray.config.base import keys_of

_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "above {}"),
    ("maximum", "at most {}"),
    ("exclusiveMaximum", "below {}"),
    ("multipleOf", "a multiple of {}"),
)


def page() -> str:
    """A table for each model that a recipe is made of, in the order in which a recipe names them."""
    places: dict[type, list[str]] = {}
    _find(Recipe, "", places)
    return "\n".join(line for model, paths in places.items() for line in _table(model, paths))


def _find(model: type, path: str, places: dict[type, list[str]]) -> None:
    """Where in a recipe a model and the models within it stand."""
    known = model in places
    places.setdefault(model, []).append(path)
    for name, field in () if known else keys_of(model).items():
        for inner in _models(field.annotation):
            _find(inner, f"{path}.{name}".strip("."), places)


def _table(model: type, paths: list[str]) -> list[str]:
    schema, said = TypeAdapter[Any](model).json_schema(), _docstrings(model)
    schema = schema["$defs"][model.__name__] if "$ref" in schema else schema  # a model within itself
    lines = [f"## {_heading(paths, schema)}", "", _text(model.__doc__), ""]
    lines += ["| key | value | default | meaning |", "|---|---|---|---|"]
    for name, field in keys_of(model).items():
        value, text = _value(schema["properties"][name]), _text(said.get(name)) or _about(field)
        lines.append(f"| `{name}` | {value} | {_default(field)} | {text} |")
    return [*lines, ""]


def _heading(paths: list[str], schema: dict[str, Any]) -> str:
    kind = schema["properties"].get("kind")
    if kind is None:
        return ", ".join(f"`{path}`" for path in paths) if paths[0] else "Top level"
    kinds = kind.get("enum") or [kind["const"]]
    return f"`{paths[0]}` of kind " + " and ".join(f"`{one}`" for one in kinds)


def _models(annotation: Any) -> list[type]:
    """The models within an annotation, in its order."""
    if keys_of(annotation):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]


def _docstrings(part: type) -> dict[str, str]:
    """Key -> its documentation, of the class and those that it inherits from."""
    found: dict[str, str] = {}
    for cls in reversed(part.__mro__):
        inside = ast.parse(inspect.getsource(cls)).body[0] if cls is not object else None
        for field, text in pairwise(getattr(inside, "body", [])):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(said))):
                    found[name] = said
    return found


def _about(field: FieldInfo) -> str:
    """The first sentence about the model that a field without a docstring holds."""
    models = _models(field.annotation)
    return _text(models[0].__doc__) if len(models) == 1 else "See below, by kind." if models else "Which of the kinds."


def _value(schema: dict[str, Any]) -> str:
    if "const" in schema:
        return f"`{_plain(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{_plain(value)}`" for value in schema["enum"])
    if choices := schema.get("anyOf") or schema.get("oneOf"):
        return "; or ".join(dict.fromkeys(_value(choice) for choice in choices))
    if "$ref" in schema:
        return "a mapping"
    kind = {"object": "mapping", "string": "text"}.get(schema.get("type", ""), schema.get("type", "any"))
    if kind == "array":
        return _list(schema)
    return ", ".join([kind, *(text.format(f"{schema[key]:,}") for key, text in _BOUNDS if key in schema)])


def _list(schema: dict[str, Any]) -> str:
    least, most = schema.get("minItems"), schema.get("maxItems")
    count = "" if least is None else f" of {least}" if least == most else f" of {least} or more"
    item = _value(schema.get("items", {}))
    return f"list{count}, each {item}"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "as below" if keys_of(type(value)) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _text(doc: str | None) -> str:
    """A docstring in one line, safe within a table."""
    words = " ".join((doc or "").split())
    return words.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")
