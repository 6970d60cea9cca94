"""The search of fingerprints through one block of images, of sparse activations or of dense embeddings.

Sums over coordinates go from the strongest to the weakest, so every size of a fingerprint is a prefix of one pass, and
a similarity does not depend on the other images of the block.

Legend: Q queries (of a step), S sizes of fingerprints, L = Q x S lists, G images of the block, F features, D embedding
dimension, E entries of a column, M images found.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.retrieval.fingerprints import Fingerprints
from medsae_ray.core.retrieval.nearest import DIGITS, Found, Nearest

CELLS = 2**18
"""The sums that are held at once: queries of a step times images of a piece."""
FIRST, PIECE = 512, 8192
"""The images that are searched at once, at first and once every list is full."""


class Rows(NamedTuple):
    """The images of a block: their numbers in the manifest, and the groups of which a list has one image each."""

    row_G: np.ndarray
    group_G: np.ndarray


def search(
    prints: Fingerprints, z_GF: sparse.csr_array, weight_F: Floats, rows: Rows, nearest: Nearest, silent: bool = True
) -> None:
    """Let the best of a block's sparse activations into `nearest`, list q x S + s for size s of query q.

    With `silent`, images on which no feature of the fingerprint is active compete too, as they do in SAIL: their
    cosine is 0, and with one feature they are as far away as its activation.
    """
    start = 0
    while start < z_GF.shape[0]:  # the first images give each list a last place, by which others are passed over
        some = slice(start, start + (FIRST if (nearest.row_LP[:, -1] < 0).any() else PIECE))
        start = some.stop
        _search(prints, z_GF[some], weight_F, Rows(rows.row_G[some], rows.group_G[some]), nearest, silent)


def _search(
    prints: Fingerprints, z_GF: sparse.csr_array, weight_F: Floats, rows: Rows, nearest: Nearest, silent: bool
) -> None:
    z_FG = sparse.csc_array(z_GF)
    values = z_FG.data.astype(np.float64) * np.repeat(weight_F, np.diff(z_FG.indptr))
    step = max(1, CELLS // max(1, z_GF.shape[0]))
    for start in range(0, len(prints), step):
        queries = np.arange(start, min(start + step, len(prints)))
        for size, sums in _passes(prints, queries, z_FG, values):
            nearest.add(_best(prints, size, sums, rows, nearest))
            if silent:
                nearest.add(_silent(prints, size, sums, rows, nearest))


class Sums(NamedTuple):
    """The sums of some queries with all images of a piece, over the coordinates so far."""

    queries: np.ndarray
    """The queries of the step, some of them without a fingerprint of this size."""
    dot_QG: Floats
    """The product with the query."""
    square_QG: Floats
    """The image's own square; 0 where it has none of the query's features."""


def _passes(
    prints: Fingerprints, queries: np.ndarray, z_FG: sparse.csc_array, values: np.ndarray
) -> Iterator[tuple[int, Sums]]:
    """Yield every size with its sums, which grow by one coordinate at a time."""
    images = z_FG.shape[0]
    dot, square = np.zeros(len(queries) * images), np.zeros(len(queries) * images)
    done = 0
    for size, k in enumerate(prints.sizes):
        if not prints.has_QS[queries, size].any():
            return
        for coordinate in range(done, k):
            local_E, place_E, entry_E = _column(prints.coordinate_QK[queries, coordinate], z_FG)
            value_E, at_E = values[entry_E], local_E * images + place_E
            dot[at_E] += value_E * prints.value_QK[queries, coordinate][local_E]
            square[at_E] += value_E * value_E
        done = k
        yield size, Sums(queries, dot.reshape(-1, images), square.reshape(-1, images))


def _column(feature_Q: np.ndarray, z_FG: sparse.csc_array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for a feature of each query the images on which it is active: the query's place, the image's place, and
    the entry of the matrix."""
    known = feature_Q >= 0
    feature = np.where(known, feature_Q, 0)
    starts = z_FG.indptr[feature].astype(np.int64)
    lengths = np.where(known, z_FG.indptr[feature + 1] - starts, 0)
    local_E = np.repeat(np.arange(len(feature)), lengths)
    entry_E = np.arange(len(local_E)) + np.repeat(starts - np.cumsum(lengths) + lengths, lengths)
    return local_E, z_FG.indices[entry_E].astype(np.int64), entry_E


def _best(prints: Fingerprints, size: int, sums: Sums, rows: Rows, nearest: Nearest) -> Found:
    """Return the images that may enter a list; most are passed over by a look at its last place."""
    list_Q = sums.queries * len(prints.sizes) + size
    least_Q = np.maximum(nearest.similarity_LP[list_Q, -1], -2) - 10.0**-DIGITS
    shared_QG = (sums.square_QG > 0) & prints.has_QS[sums.queries, size][:, None]
    own_Q, norm_Q = prints.value_QK[sums.queries, 0], prints.norm_QS[sums.queries, size]
    if prints.sizes[size] == 1:
        similarity_QG = _closeness(sums.dot_QG, own_Q)
        local_M, place_M = np.nonzero(shared_QG & (similarity_QG >= least_Q[:, None]))
        similarity_M = similarity_QG[local_M, place_M]
    else:
        near_QG = sums.dot_QG >= np.sqrt(sums.square_QG) * (least_Q * norm_Q)[:, None]
        local_M, place_M = np.nonzero(shared_QG & near_QG)
        length_M = np.sqrt(sums.square_QG[local_M, place_M]) * norm_Q[local_M]
        similarity_M = sums.dot_QG[local_M, place_M] / length_M
    found = Found.of(list_Q[local_M], similarity_M, rows.row_G[place_M], rows.group_G[place_M])
    return entering(found, prints.group_Q[sums.queries[local_M]], nearest)


def _closeness(dot_QG: Floats, own_Q: Floats) -> Floats:
    """Return 1 / (1 + |difference|) from the product of the single activations."""
    own = own_Q[:, None]
    close: Floats = 1 / (1 + np.abs(dot_QG / np.where(own > 0, own, 1) - own))
    return close


def entering(found: Found, own_M: np.ndarray, nearest: Nearest) -> Found:
    """Return those found that may enter their lists; `own_M` is the group of the query."""
    return found.take((found.group_M != own_M) & nearest.beaten(found.list_M, found.similarity_M, found.row_M))


def _silent(prints: Fingerprints, size: int, sums: Sums, rows: Rows, nearest: Nearest) -> Found:
    """Return images without any of a query's features, where they are near enough: the first of each group."""
    queries = sums.queries[prints.has_QS[sums.queries, size]]
    list_Q = queries * len(prints.sizes) + size
    own_Q = prints.value_QK[queries, 0]
    similarity_Q = np.round(1 / (1 + own_Q) if prints.sizes[size] == 1 else np.zeros(len(queries)), DIGITS)
    near = nearest.beaten(list_Q, similarity_Q, np.full(len(queries), rows.row_G.min(initial=0)))
    order = np.argsort(rows.row_G, kind="stable")
    found = []
    for query, number, similarity in zip(queries[near], list_Q[near], similarity_Q[near], strict=True):
        free_G = (rows.group_G != prints.group_Q[query]) & (sums.square_QG[query - sums.queries[0]] == 0)
        first = _firsts(order[free_G[order]], rows.group_G, nearest.row_LP.shape[1])
        count = len(first)
        found.append(
            Found.of(np.full(count, number), np.full(count, similarity), rows.row_G[first], rows.group_G[first])
        )
    nothing = Found(*(np.empty(0, kind) for kind in (np.int64, np.float64, np.int64, np.int64, np.float64)))
    return Found(*(np.concatenate(parts) for parts in zip(nothing, *found, strict=True)))


def _firsts(places: np.ndarray, group_G: np.ndarray, n: int) -> np.ndarray:
    """Return the first place of each of the first n groups: no later one can be among the n best of equal images."""
    look = 4 * n
    while True:
        _, first = np.unique(group_G[places[:look]], return_index=True)
        if len(first) >= n or look >= len(places):
            return places[np.sort(first)[:n]]
        look *= 4
