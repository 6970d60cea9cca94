"""Settings that one class passes to another by name, and the known name nearest to an unknown one."""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


def by_name(cls: type[T], source: object, **others: Any) -> T:
    """Make a dataclass or named tuple: each field from `others`, or from the attribute of `source` with its name."""
    names = getattr(cls, "_fields", None) or [field.name for field in fields(cls) if field.init]  # type: ignore[arg-type]
    given = {name: getattr(source, name) for name in names if name not in others and hasattr(source, name)}
    return cls(**given, **others)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.4) -> str | None:
    """Return the known name most similar to `word`; None if none is similar."""
    near = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None
