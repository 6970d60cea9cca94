"""Metrics for activations of any origin: importing this is light, each function imports what it needs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from medsae_ray.core.retrieval.neighbours import Neighbours


def neighbours(z_NF: Any, row: int, k: int, group_N: "Sequence[Any] | np.ndarray", n: int = 5) -> "Neighbours":
    """The n rows nearest to `row` by the cosine on its k strongest features, at most one of each group.

    `z_NF` are activations [N, F], an array or a sparse matrix, and `group_N` says of which patient, volume or other
    group each row is. Features that are active (above 0) on all rows are left out, as are the rows of `row`'s own
    group. With k = 1 the similarity is 1 / (1 + |difference|). Similarities are rounded to nine decimals; of equal ones
    the first row ranks first. This is SAIL's fingerprint retrieval (github.com/pwesp/sail), but for a row with fewer
    than k active features, which SAIL gives a fingerprint with features that are not active.

    Returns (rows, similarities), which are empty if there are none; `.reason` then says why. Raises ValueError for
    NaN, for other shapes, and for counts that are not whole numbers.
    """
    from medsae_ray.core.retrieval.neighbours import neighbours as nearest

    return nearest(z_NF, row, k, group_N, n)
