"""A reader's judgement of one feature, which is one line of JSON in the log.

The beginning of such a line is no JSON, as its last bracket is missing; so what a killed writer left behind is never
taken for a whole line. The line's own check finds what changed later.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any, Literal, get_args

from medsae_ray.errors import JudgementError, one_line

Kind = Literal["vote", "rename", "note", "not_a_finding"]
Vote = Literal["agree", "disagree", "unsure"]
KINDS, VOTES = get_args(Kind), get_args(Vote)
LONGEST = {"reader": 60, "rename": 120, "note": 2000, "reason": 2000}
"""The most characters of a text."""
_KEY = re.compile(r"[A-Za-z0-9_-]{8,64}")
_STUDY = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Judgement:
    """One judgement. Raises JudgementError for one that cannot be kept, with the field at fault."""

    key: str
    """The caller's own word for this judgement: sent again, it is kept once."""
    reader: str
    """The name of who judges."""
    at: str
    """The time at which it was received, by ISO 8601 and with its zone."""
    atlas: str
    """The names of the artifacts that were judged, which say of which run they are."""
    sae: str
    feature: int
    name: str | None
    """The name that the feature had there."""
    kind: Kind
    value: str | None
    """The vote (agree, disagree or unsure with the name), the better name, or the text of a note."""
    reason: str | None = None
    blind: bool = False
    """True if the reader had not been shown the name's verdict."""
    study: str | None = None
    """The reader study that it belongs to."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "reader", _text("reader", self.reader, LONGEST["reader"]))
        if self.reason is not None:
            object.__setattr__(self, "reason", _text("reason", self.reason, LONGEST["reason"]))
        object.__setattr__(self, "value", _value(self.kind, self.value))
        _check(_KEY.fullmatch(self.key), "key", "it has 8 to 64 letters, digits, _ and -")
        _check(self.study is None or study_name(self.study), "study", "it has 1 to 40 letters, digits, _ and -")
        _check(self.feature >= 0, "feature", f"{self.feature} is no feature's number")
        _check(_has_zone(self.at), "at", f"{self.at[:40]!r} is no time with a zone, as 2026-11-29T12:00:00+00:00")

    def same_as(self, other: "Judgement") -> bool:
        """Return True if both say the same, whenever they were received."""
        return replace(self, at=other.at) == other

    def line(self) -> bytes:
        """Return the judgement as a line, with its check and its end."""
        known = asdict(self)
        return json.dumps({**known, "check": _checksum(known)}, sort_keys=True).encode() + b"\n"


_FIELDS = {field.name for field in fields(Judgement)}


def from_line(line: bytes) -> Judgement:
    """Read a line. Raises JudgementError if it is not whole, was changed, or is no judgement."""
    try:
        known: dict[str, Any] = json.loads(line)
        check = known.pop("check")
        if check != _checksum(known):
            raise JudgementError("the line was changed", "check")
        return Judgement(**known)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise JudgementError(f"the line is no judgement ({type(error).__name__})") from error


def study_name(text: str) -> bool:
    """Return True if a text may name a study."""
    return _STUDY.fullmatch(text) is not None


def _value(kind: str, value: str | None) -> str | None:
    _check(kind in KINDS, "kind", f"{kind[:40]!r} is none of {', '.join(KINDS)}")
    if kind == "vote":
        _check(value in VOTES, "value", f"a vote is one of {', '.join(VOTES)}")
    elif kind == "not_a_finding":
        _check(value is None, "value", "this kind has none; say why in reason")
    else:
        return _text("value", value or "", LONGEST[kind])
    return value


def _text(field: str, text: str, longest: int) -> str:
    """Return a text as one line. JudgementError if nothing is left of it, or too much."""
    line = one_line(text)
    _check(line, field, "it is empty")
    _check(len(line) <= longest, field, f"it has {len(line)} characters; {longest} are kept")
    return line


def _has_zone(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _check(holds: object, field: str, message: str) -> None:
    if not holds:
        raise JudgementError(message, field)


def _checksum(known: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]
