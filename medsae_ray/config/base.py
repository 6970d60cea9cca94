"""The common base of a recipe's parts: strict, frozen, with a docstring for each field.

A part is a model, or a dataclass of core beside the code that it steers.
"""

import os
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Union, get_type_hints
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo


def expanded(path: str) -> str:
    """Expand ~, $NAME and ${NAME} in a path as a shell does. ValueError if it is no path on this machine."""
    if os.sep == "/" and re.match(r"[A-Za-z]:[\\/]|\\\\", path):
        raise ValueError("it is a path of Windows; write it as this machine sees it, as in /mnt/c/data")
    if re.search(r"\$\{(?!\w+\})", path):
        raise ValueError("of a shell's ${...} only ${NAME} is read")
    for name in re.findall(r"\$(?:(\w+)|\{(\w+)\})", path):
        if (variable := "".join(name)) not in os.environ and not variable[0].isdigit():
            raise ValueError(f"the environment variable {variable} is not set")
    found = os.path.expanduser(os.path.expandvars(path))
    if found.startswith("~"):
        raise ValueError("~ stands for a user's folder, and there is no such user; a name that begins so is ./~name")
    if not found.strip() or "\0" in found:
        raise ValueError("it is empty: leave it out" if not found.strip() else "no path has a null character")
    return found


def _from_the_root(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("it has to be a folder from the root (/), as every node has its own")
    return path


def _http(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or re.search(r"\s", url):
        raise ValueError("it has to be an address as http://host:8000/v1, without a query")
    try:
        parts.port, parts.hostname.encode("idna")
    except ValueError as error:
        raise ValueError(f"its host or port is none: {error}") from None
    return url


HttpUrl = Annotated[str, AfterValidator(expanded), AfterValidator(str.strip), AfterValidator(_http)]
"""The address of a server, with $NAME and ${NAME} expanded as by a shell."""
PathText = Annotated[str, AfterValidator(expanded)]
"""A path or URI; a relative one starts at the recipe's folder."""
NodeFolder = Annotated[str, AfterValidator(expanded), AfterValidator(_from_the_root)]
"""A folder that every node has, from the root (/)."""


class Model(BaseModel):
    """A part of a recipe: immutable, without type coercion; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True, allow_inf_nan=False
    )


class _FromMapping:
    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        schema = handler(source)
        handler.resolve_ref_schema(schema)["strict"] = False
        return schema


PART = _FromMapping()
"""The mark of a dataclass that is a part of a recipe. It is read from a mapping, which pydantic refuses in strict
mode, and its values are as strict as a model's."""


def by_kind(parts: Iterable[type]) -> Any:
    """Return the type of a choice among dataclasses by `kind`."""
    return Annotated[Union[tuple(Annotated[part, PART] for part in parts)], Field(discriminator="kind")]  # noqa: UP007


def keys_of(part: Any) -> dict[str, FieldInfo]:
    """Return the keys of a part of a recipe, with their types and defaults; none of anything else."""
    if not (isinstance(part, type) and is_dataclass(part)):
        return getattr(part, "model_fields", {})
    hints = get_type_hints(part, include_extras=True)
    return {field.name: FieldInfo.from_annotated_attribute(hints[field.name], field) for field in fields(part)}
