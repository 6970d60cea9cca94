"""What every part of a recipe shares: strict, frozen models whose fields are documented one by one."""

import os
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

LabelPolicy = Literal["ignore", "zero", "one"]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]


def expanded(path: str) -> str:
    """A path with ~, $NAME and ${NAME} as a shell reads them. ValueError for what is no path on this machine."""
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


def _distinct(names: list[Any]) -> list[Any]:
    known = [name.strip() if isinstance(name, str) else name for name in names]
    if twice := next((name for name in known if known.count(name) > 1), None):
        raise ValueError(f"{twice!r} is listed twice")
    return names


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
"""The address of a server, with $NAME and ${NAME} as a shell reads them."""
Distinct = AfterValidator(_distinct)
"""A list that has nothing twice."""
PathText = Annotated[str, AfterValidator(expanded)]
"""A path or URI; a relative one starts at the recipe's folder."""
NodeFolder = Annotated[str, AfterValidator(expanded), AfterValidator(_from_the_root)]
"""A folder that every node has, from the root (/)."""


class Model(BaseModel):
    """A part of a recipe: immutable, without type coercion; unknown keys, NaN and infinity are errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, strict=True, allow_inf_nan=False
    )
