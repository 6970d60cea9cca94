"""Metadata columns (view, sex, age, source, ...) as numbers or categories. Manifest metadata is text.

Legend: N images.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.values import Floats, Ints

Columns: TypeAlias = Mapping[str, Sequence[str | None]]
"""The texts of each column by its name, one per image, None = unknown."""

NUMERIC_VALUES = 7
"""The fewest distinct values of a numeric column; one with fewer is taken as categories."""
BANDS = 5
"""The bands of equal count into which a numeric column (age) is cut for matching."""
CHANCE = 0.05


class BestColumn(NamedTuple):
    """The column, or one category of it, that best separates active images from the others."""

    name: str | None
    """The name: "column" or "column = category"; None if no column varies."""
    auroc: float
    """The AUROC regardless of direction, so at least 0.5; NaN without a column."""
    beyond_chance: bool
    """True if its interval lies above 0.5, at a level corrected for the number of columns and categories."""


def numbers(column: Sequence[str | None]) -> Floats | None:
    """Return the column as float64, NaN = unknown; None if it holds other values than numbers, or few distinct ones."""
    try:
        value_N = np.array([np.nan if v is None or v == "" else float(v) for v in column])
    except ValueError:
        return None
    known = value_N[np.isfinite(value_N)]
    return value_N if len(np.unique(known)) >= NUMERIC_VALUES and not np.isinf(value_N).any() else None


def strata(columns: Columns) -> Ints:
    """Return equal numbers [N] for images with equal metadata, ages by band. Unknown is a value of its own."""
    codes = np.stack([_codes(column) for column in columns.values()], axis=1)
    return np.unique(codes, axis=0, return_inverse=True)[1].reshape(-1)


def _codes(column: Sequence[str | None]) -> Ints:
    value_N = numbers(column)
    if value_N is None:
        return np.unique(_categories(column), return_inverse=True)[1].reshape(-1)
    edges = np.nanquantile(value_N, np.arange(1, BANDS) / BANDS)
    return np.where(np.isnan(value_N), -1, np.searchsorted(edges, value_N, side="right"))


def _categories(column: Sequence[str | None]) -> np.ndarray:
    return np.array(["" if value is None else str(value) for value in column], dtype=np.str_)


def best_column(columns: Columns, y_N: np.ndarray) -> BestColumn:
    """Return the metadata that best separates y = 1 from y = 0: numbers by rank, categories one against the rest.

    Images whose value is unknown are left out of that column.
    """
    scores = {name: score for column, values in columns.items() for name, score in _scores(column, values)}
    if not scores or not 0 < np.sum(y_N) < len(y_N):
        return BestColumn(None, float("nan"), False)
    areas = {name: _directed(score, y_N, 1 - CHANCE / len(scores)) for name, score in scores.items()}
    best = max(areas, key=lambda name: areas[name])
    return (
        BestColumn(best, areas[best][0], areas[best][1] > 0.5)
        if areas[best][0] > 0
        else BestColumn(None, np.nan, False)
    )


def _scores(column: str, values: Sequence[str | None]) -> list[tuple[str, Floats]]:
    value_N = numbers(values)
    if value_N is not None:
        return [(column, value_N)]
    category_N = _categories(values)
    found = sorted(set(category_N[category_N != ""].tolist()))
    unknown_N = category_N == ""
    return [(f"{column} = {c}", np.where(unknown_N, np.nan, category_N == c)) for c in found] if len(found) > 1 else []


def _directed(score_N: Floats, y_N: np.ndarray, level: float) -> tuple[float, float]:
    """Return area and lower end of its interval in the better direction; 0, 0 if a class has no known value."""
    known = ~np.isnan(score_N)
    area = auroc(score_N[known], y_N[known], level)
    if np.isnan(area.auc):
        return 0.0, 0.0
    return (area.auc, area.low) if area.auc >= 0.5 else (1 - area.auc, 1 - area.high)
