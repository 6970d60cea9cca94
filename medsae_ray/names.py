"""Names: settings that one class hands to another by them, and the known one that is nearest to one that is not."""

from collections.abc import Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar

T = TypeVar("T")


def by_name(cls: type[T], source: object, **others: Any) -> T:
    """A dataclass or named tuple: each field from `others`, or from the attribute of `source` with its name."""
    names = getattr(cls, "_fields", None) or [field.name for field in fields(cls) if field.init]  # type: ignore[arg-type]
    given = {name: getattr(source, name) for name in names if name not in others and hasattr(source, name)}
    return cls(**given, **others)


def nearest(word: str, known: Iterable[str], cutoff: float = 0.4) -> str | None:
    """The known name that is most like `word`; None if none is like it."""
    near = get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return near[0] if near else None
