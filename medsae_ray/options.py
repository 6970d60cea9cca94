"""The allowed values of a recipe's option, declared with its type: Annotated[int, Limits(ge=1)].

Options are frozen dataclasses beside the code that they steer; a recipe is composed of them. It reads them through
pydantic, which core does not import: pydantic asks these marks for a schema, which is a plain dict.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Annotated, Any


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The range of a number, or of the length of a text or list."""

    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    multiple_of: int | None = None
    min_length: int | None = None
    max_length: int | None = None

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return handler(source) | {name: limit for name, limit in asdict(self).items() if limit is not None}


@dataclass(frozen=True)
class Checked:
    """A check whose `function` returns the value to use. It raises ValueError for an invalid one."""

    function: Callable[[Any], Any]
    before: bool = False
    """True to pass the recipe's value, before its type is checked."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        kind = "function-before" if self.before else "function-after"
        return {"type": kind, "function": {"type": "no-info", "function": self.function}, "schema": handler(source)}


def _distinct(names: list[Any]) -> list[Any]:
    known = [name.strip() if isinstance(name, str) else name for name in names]
    if twice := next((name for name in known if known.count(name) > 1), None):
        raise ValueError(f"{twice!r} is listed twice")
    return names


Positive = Annotated[int, Limits(ge=1)]
Seed = Annotated[int, Limits(ge=0, lt=2**31)]
Distinct = Checked(_distinct)
"""A check that a list holds nothing twice."""
