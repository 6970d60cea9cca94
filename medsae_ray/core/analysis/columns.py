"""Metadata columns that repeat a label: a subtype that is blank without a finding, a folder per class.

A feature that follows such a column follows the label and no shortcut, so a high AUROC of the column would mislead.

Legend: N images, L labels, C categories.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.analysis.values import Floats

FEWEST = 10
"""The fewest images with, and without, a label for a column to count as deciding it."""
ERRORS = 0.01
"""The largest share of the smaller class whose label a deciding column may get wrong."""
PATIENTS_PER_CATEGORY = 10
"""The fewest patients per category. A column with more categories names patients, and decides all that they have."""


def deciding_columns(
    columns: Mapping[str, pa.ChunkedArray], y_NL: Floats, patients: int, labels: Sequence[str]
) -> dict[str, list[str]]:
    """Return column -> labels that it decides, without columns that decide none. Unknown is a category of its own."""
    found: dict[str, list[str]] = {name: [] for name in columns}
    code_of = {name: code_N for name, column in columns.items() if (code_N := _codes(column, patients)) is not None}
    for label, y_N in zip(labels, y_NL.T, strict=True):
        y_N = np.ascontiguousarray(y_N)  # it is read for each column, and a million rows of labels fit no cache
        for name in (name for name, code_N in code_of.items() if _decides(code_N, y_N)):
            found[name].append(label)
    return {name: decided for name, decided in found.items() if decided}


def _codes(column: pa.ChunkedArray, patients: int) -> np.ndarray | None:
    """Return each image's category; None for a column of one category, or of too many."""
    codes = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
    codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
    few = 1 < len(codes.dictionary) <= patients / PATIENTS_PER_CATEGORY
    return np.asarray(codes.indices) if few else None


def _decides(code_N: np.ndarray, y_N: Floats) -> bool:
    """Return True if the more frequent class of each category is nearly always that of its images."""
    with_C, without_C = (np.bincount(code_N[y_N == value], minlength=code_N.max() + 1) for value in (1, 0))
    smaller = min(with_C.sum(), without_C.sum())
    return bool(smaller >= FEWEST and np.minimum(with_C, without_C).sum() <= ERRORS * smaller)
