"""The nearest rows of one row, by its fingerprint: all in memory, for tables of any origin.

Legend: N rows, F features.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.retrieval.fingerprints import Fingerprints, discriminating
from medsae_ray.core.retrieval.nearest import Nearest
from medsae_ray.core.retrieval.search import Rows, search


class _Pair(NamedTuple):
    rows: np.ndarray
    """The rows, the nearest first."""
    cosines: np.ndarray
    """Their similarities."""


class Neighbours(_Pair):
    """The rows and their similarities, and the reason if there are none, or k is smaller than asked for."""

    reason: str | None = None


def neighbours(z_NF: Any, row: int, k: int, group_N: Sequence[Any] | np.ndarray, n: int = 5) -> Neighbours:
    """Return the n rows nearest to `row` by the cosine on its k strongest features, at most one of each group.

    `z_NF` are activations [N, F], an array or a sparse matrix, and `group_N` says of which patient, volume or other
    group each row is. Features that are active (above 0) on all rows are left out, as are the rows of `row`'s own
    group. With k = 1 the similarity is 1 / (1 + |difference|). Similarities are rounded to nine decimals; of equal ones
    the first row ranks first. This is SAIL's fingerprint retrieval (github.com/pwesp/sail), but for a row with fewer
    than k active features: SAIL adds features that are not active, here those that are there are all.

    Returns (rows, similarities), which are empty if there are none; `.reason` says why, or that k is smaller. Raises
    ValueError for NaN, for other shapes, and for counts that are not whole numbers.
    """
    z = matrix(z_NF)
    group = codes(group_N)
    if len(group) != z.shape[0]:
        raise ValueError(f"z has {z.shape[0]} rows and group_N {len(group)} entries; there must be one for each row")
    row, k, n = _whole("row", row, 0, z.shape[0] - 1), _whole("k", k, 1), _whole("n", n, 1)
    active_F = np.bincount(z.indices[z.data > 0], minlength=z.shape[1])
    weight_F = discriminating(active_F, z.shape[0])
    k, reason = usable(int(((z[[row]].data > 0) & (weight_F[z[[row]].indices] > 0)).sum()), k)
    if not k:
        return _none(str(reason))
    prints = Fingerprints.strongest(z[[row]], weight_F, group[[row]], [k])
    if (group == group[row]).all():
        return _none("all rows are of one group")
    nearest = Nearest.empty(1, n)
    search(prints, z, weight_F, Rows(np.arange(z.shape[0]), group), nearest)
    found = nearest.row_LP[0] >= 0
    answer = Neighbours(nearest.row_LP[0][found], nearest.similarity_LP[0][found])
    answer.reason = reason
    return answer


def usable(active: int, k: int) -> tuple[int, str | None]:
    """Return the size of the fingerprint of an image with `active` features, at most k, and why it is below k."""
    if active >= k:
        return k, None
    if not active:
        return 0, "the image has no active feature but those that are active on every image"
    besides = f"the image has {active} active features besides those that are active on every image"
    return active, f"{besides}, so k is {active} and not {k}"


def matrix(z_NF: Any) -> sparse.csr_array:
    """Return activations as float64 CSR without duplicates. Raises ValueError for another shape, for NaN and Inf."""
    dense = not sparse.issparse(z_NF)
    values = np.asarray(z_NF) if dense else z_NF
    if values.ndim != 2 or values.dtype.kind not in "fiub":
        raise ValueError(f"z is {values.dtype} {list(values.shape)}; a matrix of real numbers [N, F] is wanted")
    z = sparse.csr_array(values).astype(np.float64)
    z.sum_duplicates()
    if not np.isfinite(z.data).all():
        raise ValueError("z holds NaN or Inf")
    return z


def codes(group_N: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Return groups as numbers from 0."""
    values = np.asarray(group_N)
    found: np.ndarray = np.unique(values.astype(str) if values.dtype == object else values, return_inverse=True)[1]
    return found


def _none(reason: str) -> Neighbours:
    found = Neighbours(np.empty(0, dtype=np.int64), np.empty(0))
    found.reason = reason
    return found


def _whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    allowed = f"from {low} to {high}" if high is not None else f"of {low} or more"
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value:
        raise ValueError(f"{name} is {value!r}; it must be a whole number {allowed}")
    if high is not None and value > high:
        raise ValueError(f"{name} is {value!r}; it must be a whole number {allowed}")
    return int(value)
