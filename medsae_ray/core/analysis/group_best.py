"""Each unit's best image of every group of images, in time linear in the values.

A patient may have hundreds of images: what is no patient's best need not be sorted.

Legend: N images, F units, G groups, T entries found.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats, Ints, UnitValues


class Entries(NamedTuple):
    """The values of units on images, each image a row of some table of images."""

    unit_T: Ints
    row_T: Ints
    value_T: Floats

    def where(self, chosen_T: np.ndarray) -> "Entries":
        """Return some of the entries, by a mask or by their numbers."""
        return Entries(*(values[chosen_T] for values in self))


def group_best(x_NF: UnitValues, group_N: Ints, k: int, least: float | None = None) -> Entries:
    """Return the largest value of each unit in each group, the first of equal ones in the order of rows; at least those
    that are among the unit's `k` largest.

    Only values above `least` count, or without it all but 0.
    """
    order_N = np.argsort(group_N, kind="stable")
    found = (
        _sparse(x_NF[order_N], group_N[order_N], least)
        if sparse.issparse(x_NF)
        else _dense(x_NF[order_N], group_N[order_N], k, least)
    )
    return found._replace(row_T=order_N[found.row_T])


def _dense(x_NF: np.ndarray, group_N: Ints, k: int, least: float | None) -> Entries:
    counts_NF = x_NF != 0 if least is None else x_NF > least
    kept_NF = np.where(counts_NF, x_NF, -np.inf)
    bounds = np.append(_starts(group_N), len(group_N))
    row_GF = np.empty((len(bounds) - 1, x_NF.shape[1]), dtype=np.int64)
    for group, (start, end) in enumerate(pairwise(bounds)):
        row_GF[group] = kept_NF[start:end].argmax(axis=0) + start
    best_GF = np.take_along_axis(kept_NF, row_GF, axis=0)
    chosen_GF = np.take_along_axis(counts_NF, row_GF, axis=0)
    if len(best_GF) > k:
        chosen_GF &= best_GF >= np.partition(best_GF, -k, axis=0)[-k]
    group_T, unit_T = np.nonzero(chosen_GF)
    row_T = row_GF[group_T, unit_T]
    return Entries(unit_T, row_T, x_NF[row_T, unit_T])


def _sparse(x_NF: sparse.csr_array, group_N: Ints, least: float | None) -> Entries:
    x_FN = sparse.csc_array(x_NF)
    unit_T = np.repeat(np.arange(x_FN.shape[1]), np.diff(x_FN.indptr))
    found = Entries(unit_T, x_FN.indices.astype(np.int64), x_FN.data)
    found = found.where(found.value_T != 0 if least is None else found.value_T > least)
    starts = _starts(found.unit_T, group_N[found.row_T])
    if not len(starts):
        return found
    pair_T = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(found.unit_T))))
    largest = np.flatnonzero(found.value_T == np.maximum.reduceat(found.value_T, starts)[pair_T])
    return found.where(largest[_starts(pair_T[largest])])


def _starts(*keys: Ints) -> Ints:
    """Return the places where any of some columns, sorted together, begins a new value."""
    if not len(keys[0]):
        return np.empty(0, np.int64)
    changes = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return np.flatnonzero(np.append(True, changes))
