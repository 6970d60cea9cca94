"""Values of a label column and their meaning.

| written | meaning |
|---|---|
| 1, 1.0, true, t, yes, y, present, positive, pos | 1, present |
| 0, 0.0, false, f, no, n, absent, negative, neg | 0, absent |
| -1, -1.0, uncertain | -1, uncertain |
| nothing, na, n/a, nan, none, null, unknown, not mentioned | blank, not annotated |

Values may be of any case, with or without spaces around, as text, number, decimal or bool. A recipe's `values` extends
and overrides the table. Any other value is an error: a word guessed wrong would be a wrong label without a warning.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from medsae_ray.errors import DatasetError

_MEANING = {
    1: "1 true t yes y present positive pos",
    0: "0 false f no n absent negative neg",
    -1: "-1 uncertain",
}
BLANK = ("", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "unknown", "not mentioned")
WORDS: dict[str, int | None] = dict.fromkeys(BLANK) | {
    word: value for value, words in _MEANING.items() for word in words.split()
}
"""Word, in the form of `normalised_word` -> 1, 0, -1 or None (blank)."""
ALLOWED = "1, 0, -1 (uncertain) and blank, or true and false, yes and no, present and absent, positive and negative"
# 1,0 as half of Europe writes 1.0. Not 1,000, which may be a thousand.
_COMMA = re.compile(r"[+-]?\d+,(0{1,2}|0{4,})")


def normalised_word(value: Any) -> str:
    """Normalise a cell for the look-up: words in lower case, and numbers as 1, 0, -1 or 0.5 in whatever form they
    were written."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        word = " ".join(value.casefold().split())
        try:
            value = float(word.replace(",", ".") if _COMMA.fullmatch(word) else word)
        except ValueError:
            return word
    number = float(value)
    if math.isnan(number):
        return "nan"
    return str(int(number)) if number.is_integer() else repr(number)


def meanings(values: Mapping[str, int | None] | None) -> dict[str, int | None]:
    """Return the table above, overridden by a recipe's `values`. DatasetError for a word with two meanings."""
    own: dict[str, int | None] = {}
    for word, value in (values or {}).items():
        if own.setdefault(normalised_word(word), value) != value:
            raise DatasetError(
                f"the dataset's `values` give {normalised_word(word)!r} two meanings, in other spellings; keep one"
            )
    return WORDS | own
