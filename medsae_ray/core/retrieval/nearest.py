"""The best rows of every list, one of each group: a monoid, so that shards may be searched in any order.

A list is one search: a query by one size of its fingerprint. The order within a list is by similarity, equal ones by
row, so that a list depends on the rows searched and on nothing else.

Legend: L lists, P places of a list, M rows found.
"""

from typing import NamedTuple, Self

import numpy as np

DIGITS = 9
"""The decimals of a similarity: what rounding makes of equal ones is not an order."""


class Found(NamedTuple):
    """Rows that were found, in any order; a row may stand in a list more than once."""

    list_M: np.ndarray
    similarity_M: np.ndarray
    row_M: np.ndarray
    group_M: np.ndarray
    """The group of each row, of which a list holds the best row alone."""
    cosine_M: np.ndarray
    """The cosine of whole embeddings, NaN where it was not computed; it decides nothing."""

    @classmethod
    def of(cls, list_M: np.ndarray, similarity_M: np.ndarray, row_M: np.ndarray, group_M: np.ndarray) -> Self:
        """Round similarities, and leave the cosines open."""
        rounded = np.round(similarity_M, DIGITS)
        return cls(list_M, rounded, row_M, group_M, np.full(len(row_M), np.nan))

    def take(self, chosen: np.ndarray) -> "Found":
        """Return some of the rows, by a mask or by their numbers."""
        return Found(*(values[chosen] for values in self))

    def plus(self, other: "Found") -> "Found":
        """Append the rows of another."""
        return Found(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


class Nearest(NamedTuple):
    """The best `P` rows of each list so far; an empty place has row -1 and similarity -inf."""

    similarity_LP: np.ndarray
    row_LP: np.ndarray
    group_LP: np.ndarray
    cosine_LP: np.ndarray

    @classmethod
    def empty(cls, lists: int, places: int) -> Self:
        """Return lists in which nothing was found."""
        kinds = ((-np.inf, np.float64), (-1, np.int64), (-1, np.int64), (np.nan, np.float64))
        return cls(*(np.full((lists, places), value, dtype=kind) for value, kind in kinds))

    def merge(self, other: "Nearest") -> "Nearest":
        """Return the best of both, of searches over any rows."""
        merged = Nearest(*(values.copy() for values in self))
        merged.add(other._flat(np.arange(len(other.row_LP))))
        return merged

    def add(self, found: Found) -> None:
        """Let rows found elsewhere into these lists, in place."""
        touched = np.unique(found.list_M)
        if len(touched):
            best, place_M = _ranked(self._flat(touched).plus(found), self.row_LP.shape[1])
            for values, empty, new_M in zip(self, Nearest.empty(1, 1), best[1:], strict=True):
                values[touched] = empty[0, 0]
                values[best.list_M, place_M] = new_M

    def beaten(self, list_M: np.ndarray, similarity_M: np.ndarray, row_M: np.ndarray) -> np.ndarray:
        """Return bool [M]: the row ranks before the last place of its list, and so may enter it."""
        last_M, last_row_M = self.similarity_LP[list_M, -1], self.row_LP[list_M, -1]
        before: np.ndarray = (similarity_M > last_M) | ((similarity_M == last_M) & (row_M < last_row_M))
        return before

    def _flat(self, lists: np.ndarray) -> Found:
        list_M, place_M = np.nonzero(self.row_LP[lists] >= 0)
        at = (lists[list_M], place_M)
        return Found(at[0], self.similarity_LP[at], self.row_LP[at], self.group_LP[at], self.cosine_LP[at])


def _ranked(found: Found, places: int) -> tuple[Found, np.ndarray]:
    """Return the rows that have a place, and these places."""
    ordered = found.take(np.lexsort((found.row_M, -found.similarity_M, found.list_M)))
    groups = ordered.group_M.max(initial=0) + 1
    _, first = np.unique(ordered.list_M * groups + ordered.group_M, return_index=True)
    ordered = ordered.take(np.sort(first))
    _, starts, counts = np.unique(ordered.list_M, return_index=True, return_counts=True)
    place_M = np.arange(len(ordered.row_M)) - np.repeat(starts, counts)
    kept = place_M < places
    return ordered.take(kept), place_M[kept]
