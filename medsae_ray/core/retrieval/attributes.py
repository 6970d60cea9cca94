"""The attributes of a query that no finding's name has: side, place, sex of the patient, plane of the image.

Each is said by a name, or by a column of metadata, or the query is refused: an image of the other side answers nothing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from medsae_ray.core.retrieval.bm25 import tokens
from medsae_ray.core.retrieval.negation import QueryRefused

SIDES = frozenset(("left", "right", "bilateral", "unilateral"))
PLACES = frozenset(
    """upper lower middle apical basal basilar central peripheral perihilar hilar retrocardiac anterior posterior medial
    proximal distal""".split()  # noqa: SIM905
)
SEXES = {"female": "female", "woman": "female", "women": "female", "male": "male", "man": "male", "men": "male"}
PLANES = frozenset("pa ap lateral frontal axial coronal sagittal supine portable erect".split())  # noqa: SIM905
COLUMNS = {"sex": ("sex", "gender"), "plane": ("view", "viewposition", "plane", "orientation", "projection")}
"""The columns of metadata that say an attribute."""
_SEX_VALUES = {"f": "female", "female": "female", "w": "female", "m": "male", "male": "male"}


class Attribute(NamedTuple):
    """A word of a query, and what it is about: side, place, sex or plane."""

    kind: str
    word: str


class Condition(NamedTuple):
    """A column of metadata and the value that images must have."""

    column: str
    value: str


def attributes(text: str) -> list[Attribute]:
    """Return the attributes in the words of a text, in their order."""
    found = []
    for word in re.findall(r"[^\W_]+", text.casefold()):
        kinds = {"side": SIDES, "place": PLACES, "sex": SEXES, "plane": PLANES}
        found += [Attribute(kind, word) for kind, words in kinds.items() if word in words]
    return list(dict.fromkeys(found))


def conditions(wanted: str, names: Sequence[str], values_of: Mapping[str, set[str]]) -> list[Condition]:
    """Return what metadata has to say of the wanted words' attributes that no chosen name says; `values_of` are the
    values of each column. Raises QueryRefused for an attribute that nothing says."""
    said, found = {word for name in names for word in tokens(name)}, []
    for kind, word in attributes(wanted):
        if set(tokens(word)) <= said:
            continue
        condition = _condition(kind, word, values_of)
        if condition is None:
            where = "no name that was picked" + ("" if kind not in COLUMNS else ", and no column of metadata,")
            raise QueryRefused(
                f"{where} says {word!r} ({kind}): images cannot be found by it. Leave it out to ignore it"
            )
        found.append(condition)
    return found


def _condition(kind: str, word: str, values_of: Mapping[str, set[str]]) -> Condition | None:
    for column in sorted(values_of):
        if re.sub(r"[^a-z]", "", column.casefold()).removeprefix("patient") in COLUMNS.get(kind, ()):
            for value in sorted(values_of[column]):
                told = _SEX_VALUES.get(value.casefold()) if kind == "sex" else value.casefold()
                if told == (SEXES[word] if kind == "sex" else word):
                    return Condition(column, value)
    return None


def fulfilling(conditions: Sequence[Condition], column_of: Mapping[str, np.ndarray], images: int) -> np.ndarray:
    """Return bool [N]: the images whose metadata have all these values."""
    kept_N = np.ones(images, dtype=bool)
    for column, value in conditions:
        kept_N &= column_of[column] == value
    return kept_N
