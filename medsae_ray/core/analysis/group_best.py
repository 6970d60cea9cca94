"""Each unit's best image of every group of images, in time linear in the values.

A patient may have hundreds of images: what is no patient's best need not be sorted.

Legend: N images, F units, T entries found, S pairs of a unit and a group.
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


def group_best(x_NF: UnitValues, group_N: Ints, least: float | None = None) -> Entries:
    """Return the largest value of each unit in each group, the first of equal ones in the order of rows.

    Only values above `least` count, or without it all but 0.
    """
    order_N = np.argsort(group_N, kind="stable")
    best = _sparse if sparse.issparse(x_NF) else _dense
    found = best(x_NF[order_N], group_N[order_N], least)
    return found._replace(row_T=order_N[found.row_T])


def _dense(x_NF: np.ndarray, group_N: Ints, least: float | None) -> Entries:
    counts_NF = x_NF != 0 if least is None else x_NF > least
    kept_NF, every_F = np.where(counts_NF, x_NF, -np.inf), np.arange(x_NF.shape[1])
    bounds = np.append(_starts(group_N), len(group_N))
    row_SF = [kept_NF[start:end].argmax(axis=0) + start for start, end in pairwise(bounds)]
    row_T = np.concatenate([np.empty(0, np.int64), *row_SF])
    unit_T = np.tile(every_F, len(row_SF))
    found = Entries(unit_T, row_T, x_NF[row_T, unit_T])
    return found.where(counts_NF[row_T, unit_T])


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
