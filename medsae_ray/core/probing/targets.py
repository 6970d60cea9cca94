"""The targets of probes: every label, and every column of metadata.

A column of categories gives a target for each, one against the rest; of two categories only the first in alphabetical
order, as the other says the same. A column with thresholds gives a target for each of these. Any other column of more
than `CATEGORIES` numbers is cut at its median. Which categories there are, and where the median is, only the images
marked `fit_N` decide.

Legend: N images, L labels.
"""

import math
import operator
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from medsae_ray.core.analysis.columns import PATIENTS_PER_CATEGORY
from medsae_ray.core.analysis.values import Bools, Floats

LABELS = "labels"
"""The group of all labels without one; a column of metadata is a group of its own."""
CATEGORIES = 10
"""The most distinct numbers of a column that count as categories."""
FREQUENT = 20
"""The most categories of a column that are targets, the most frequent first."""
THRESHOLD = re.compile(r"(<|>=)(-?\d+(?:\.\d+)?)")
"""A threshold as a recipe has it: "<40" or ">=80"."""
_RULES = {"<": operator.lt, ">=": operator.ge}
_YEARS = re.compile(r"(\d{3})Y")
"""An age of DICOM, in years."""


class Target(NamedTuple):
    """Something to predict of an image."""

    name: str
    group: str
    y_N: Floats
    """1, 0 or NaN (unknown)."""
    untested: str | None = None
    """The reason not to probe it."""


def targets_of(
    labels: Sequence[str],
    y_NL: Floats,
    columns: Mapping[str, Sequence[str | None]],
    fit_N: Bools,
    thresholds: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Target]:
    """Return the labels, then the columns of metadata by name.

    `thresholds`: column, in any case -> "<40", ">=80". `groups`: group -> its labels; other labels are one group.
    """
    group_of = {label: group for group, own in groups.items() for label in own}
    found = [Target(label, group_of.get(label, LABELS), y_N) for label, y_N in zip(labels, y_NL.T, strict=True)]
    cuts = {name.casefold(): list(dict.fromkeys(rules)) for name, rules in thresholds.items()}
    for name in sorted(columns):
        texts = [None if _unknown(value) else str(value).strip() for value in columns[name]]
        found += _of_column(name, texts, fit_N, cuts.get(name.casefold(), []))
    return found


def _unknown(value: str | None) -> bool:
    return value is None or str(value).strip().casefold() in ("", "nan")


def _of_column(name: str, texts: Sequence[str | None], fit_N: Bools, cuts: Sequence[str]) -> list[Target]:
    seen = Counter(text for text, fits in zip(texts, fit_N, strict=True) if fits and text is not None)
    if not seen:
        return [_without(name, len(texts), "no value in a training patient")]
    if cuts:
        rules = [rule.groups() for rule in map(THRESHOLD.fullmatch, cuts) if rule]
        return [_cut(name, sign, float(bound), texts) for sign, bound in rules]
    if len(seen) > CATEGORIES and not any(math.isnan(number(text)) for text in seen):
        return [_cut(name, ">=", float(np.median([number(text) for text in seen.elements()])), texts)]
    if len(seen) > max(CATEGORIES, seen.total() / PATIENTS_PER_CATEGORY):
        return [_without(name, len(texts), f"{len(seen)} values in {seen.total()} training patients are no categories")]
    return list(_one_against_the_rest(name, texts, seen))


def _without(name: str, images: int, reason: str) -> Target:
    return Target(name, name, np.full(images, np.nan), reason)


def _cut(name: str, sign: str, bound: float, texts: Sequence[str | None]) -> Target:
    value_N = np.array([number(text) for text in texts])
    y_N = np.where(np.isnan(value_N), np.nan, _RULES[sign](value_N, bound))
    return Target(f"{name}{sign}{bound:g}", name, y_N)


def number(text: str | None) -> float:
    """Return a finite number, or an age as DICOM has it (058Y) in years; NaN for anything else."""
    if years := _YEARS.fullmatch(text or ""):
        return float(years[1])
    try:
        value = float(text or "nan")
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def _one_against_the_rest(name: str, texts: Sequence[str | None], seen: Counter[str]) -> Iterator[Target]:
    kinds = sorted(seen, key=lambda kind: (-seen[kind], kind))[:FREQUENT]
    for kind in sorted(kinds)[: 1 if len(seen) == 2 else None]:
        y_N = np.array([np.nan if text is None else float(text == kind) for text in texts])
        yield Target(f"{name}={kind}", name, y_N)
