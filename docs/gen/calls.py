"""What can be called: the command line, the routes of the service, and the public functions."""

import argparse
import inspect
from types import SimpleNamespace
from typing import Any


def parser() -> argparse.ArgumentParser:
    """The command line's. Imported here and nowhere else in the documentation and its tests."""
    from medsae_ray import cli

    return cli.parser()


def command_line() -> str:
    """A section for each command, and for each command of a group."""
    whole = parser()
    options = [_argument(action) for action in whole._actions if action.option_strings and action.dest != "help"]
    parts = [f"{whole.description}", "", *_rows(options)]
    return "\n".join([*parts, *_commands(whole, whole.prog)])


def _commands(of: argparse.ArgumentParser, called: str) -> list[str]:
    parts: list[str] = []
    for group in (action for action in of._actions if isinstance(action, argparse._SubParsersAction)):
        helps = {action.dest: action.help or "" for action in group._choices_actions}
        for name, command in group.choices.items():
            usage = " ".join(command.format_usage().removeprefix("usage: ").split())
            parts += [f"## `{called} {name}`", "", _sentence(_cell(helps[name])), "", "```text", usage, "```", ""]
            parts += _rows([_argument(action) for action in command._actions if _is_argument(action)])
            parts += _commands(command, f"{called} {name}")
    return parts


def _is_argument(action: argparse.Action) -> bool:
    return action.dest != "help" and not isinstance(action, argparse._SubParsersAction)


def _rows(rows: list[str]) -> list[str]:
    return ["| argument | meaning | default |", "|---|---|---|", *rows, ""] if rows else []


def routes() -> str:
    """A section for each route, with its parameters and its answer's fields."""
    document = openapi()
    schemas = document["components"]["schemas"]
    parts = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            parts += [f"### `{method.upper()} {path}`", "", _cell(route.get("description", "")), ""]
            if rows := [_parameter(parameter) for parameter in route.get("parameters", [])]:
                parts += ["| parameter | value | meaning |", "|---|---|---|", *rows, ""]
            if body := _body(route, schemas):
                parts += [body, ""]
            if answer := _answer(route, schemas):
                parts += [f"The answer has {answer}.", ""]
    return "\n".join(parts)


def public() -> str:
    """mkdocstrings' marks for the public functions and classes."""
    import medsae_ray

    names = [name for name in medsae_ray.__all__ if _is_shown(getattr(medsae_ray, name))]
    return "\n\n".join(f"::: medsae_ray.{name}" for name in names)


def measures() -> str:
    """mkdocstrings' marks for the measures that need no run."""
    from medsae_ray import metrics

    return "\n\n".join(f"::: medsae_ray.metrics.{name}" for name in metrics.__all__)


def openapi() -> dict[str, Any]:
    """The document that a service shows at /openapi.json; no run is opened for it."""
    from medsae_ray.service.app import make_app
    from medsae_ray.service.limits import RequestLimits
    from medsae_ray.service.metrics import Metrics

    desk: Any = SimpleNamespace(run=None, limits=RequestLimits(), metrics=Metrics())
    return make_app(desk, token="a digest").openapi()


def _is_shown(value: Any) -> bool:
    """Errors and recipes have pages of their own."""
    if inspect.isclass(value):
        return not issubclass(value, Exception) and not hasattr(value, "model_fields")
    return inspect.isfunction(value)


def _argument(action: argparse.Action) -> str:
    names = ", ".join(f"`{name}`" for name in action.option_strings) or f"`{action.metavar or action.dest}`"
    if action.option_strings and action.nargs != 0:
        shown = action.metavar or "|".join(map(str, action.choices or [action.dest.upper()]))
        names += f" `{shown}`"
    default = "" if action.default in (None, False, argparse.SUPPRESS, []) else f"`{action.default}`"
    needed = "required" if action.required and action.option_strings else default
    text = action.help or (f"one of {', '.join(map(str, action.choices))}" if action.choices else "")
    return f"| {_cell(names)} | {_cell(text)} | {needed} |"


def _parameter(parameter: dict[str, Any]) -> str:
    schema = parameter["schema"]
    options = schema.get("anyOf", [schema])
    values = [_kind(option) for option in options if option.get("type") != "null"]
    default = f"; {schema['default']} unless given" if schema.get("default") is not None else ""
    return f"| `{parameter['name']}` | {_cell(', '.join(values))} | in the {parameter['in']}{default} |"


def _kind(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    bounds = [f"{text} {schema[key]:,}" for key, text in (("minimum", "from"), ("maximum", "to")) if key in schema]
    return " ".join([schema.get("type", "any"), *bounds])


def _body(route: dict[str, Any], schemas: dict[str, Any]) -> str:
    content = route.get("requestBody", {}).get("content", {})
    if not content:
        return ""
    kinds = ", ".join(f"`{kind}`" for kind in content)
    schema = next(iter(content.values()))["schema"]
    fields = _resolved(schema, schemas).get("properties", {})
    return f"The body is {kinds} with " + ", ".join(f"`{name}`" for name in fields) + "."


def _answer(route: dict[str, Any], schemas: dict[str, Any]) -> str:
    schema = route["responses"].get("200", {}).get("content", {}).get("application/json", {}).get("schema", {})
    return ", ".join(f"`{name}`" for name in _resolved(schema, schemas).get("properties", {}))


def _resolved(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        found: dict[str, Any] = schemas[schema["$ref"].rsplit("/", 1)[1]]
        return found
    return schema


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
