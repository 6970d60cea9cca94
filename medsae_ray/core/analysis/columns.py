"""Metadata columns that are a label in other words: a subtype that is blank where nothing is found, a folder per class.

A feature that follows such a column follows the label and no shortcut, and who reads that metadata tell active from
silent images better than its name does is misled.

Legend: N images, L labels, C categories.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.analysis.values import Floats

FEWEST = 10
"""Images with and without the label that it takes to say so,"""
ERRORS = 0.01
"""and images, as a share of the smaller class, whose label the column may get wrong."""
PATIENTS_PER_CATEGORY = 10
"""A column with more categories than patients allow at this number names patients, and decides whatever they have."""


def deciding_columns(
    columns: Mapping[str, pa.ChunkedArray], y_NL: Floats, patients: int, labels: Sequence[str]
) -> dict[str, list[str]]:
    """Column -> the labels that it decides; columns that decide none are left out. Unknown is a category of its own."""
    found: dict[str, list[str]] = {}
    for name, column in columns.items():
        codes = pc.dictionary_encode(column.combine_chunks(), null_encoding="encode")
        codes = codes.combine_chunks() if isinstance(codes, pa.ChunkedArray) else codes
        if 1 < len(codes.dictionary) <= patients / PATIENTS_PER_CATEGORY:
            code_N = codes.indices.to_numpy()
            decided = [label for label, y_N in zip(labels, y_NL.T, strict=True) if _decides(code_N, y_N)]
            found |= {name: decided} if decided else {}
    return found


def _decides(code_N: np.ndarray, y_N: Floats) -> bool:
    """Whether the more frequent class of each category is nearly always that of its images."""
    with_C, without_C = (np.bincount(code_N[y_N == value], minlength=code_N.max() + 1) for value in (1, 0))
    smaller = min(with_C.sum(), without_C.sum())
    return bool(smaller >= FEWEST and np.minimum(with_C, without_C).sum() <= ERRORS * smaller)
