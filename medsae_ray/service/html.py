"""The service's own HTML pages: Jinja with autoescape, as names come from a model and notes from readers."""

from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("medsae_ray.service"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(template: str, **values: Any) -> str:
    """Render a template of medsae_ray/service/templates."""
    return _environment().get_template(template).render(**values)


@cache
def script(name: str) -> bytes:
    """Read a script that lies beside the templates."""
    return resources.files("medsae_ray.service").joinpath("templates", name).read_bytes()
