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
        for size, touched in _passes(prints, queries, z_FG, values):
            nearest.add(_best(prints, size, touched, rows, nearest))
            if silent:
                nearest.add(_silent(prints, size, touched, rows, nearest))


class Touched(NamedTuple):
    """The images that share a feature with queries, and their sums so far; an image may come twice."""

    queries: np.ndarray
    """The queries of the step, some of them without a fingerprint of this size."""
    local_M: np.ndarray
    """The place of the query among these."""
    place_M: np.ndarray
    """The place of the image in the block."""
    sum_M: np.ndarray
    """The product with the query as the real part, the image's square as the imaginary one: read together."""


def _passes(
    prints: Fingerprints, queries: np.ndarray, z_FG: sparse.csc_array, values: np.ndarray
) -> Iterator[tuple[int, Touched]]:
    """Yield every size with its sums, which grow by one coordinate at a time."""
    images = z_FG.shape[0]
    sums = np.zeros(len(queries) * images, dtype=np.complex128)
    local, place, done = list[np.ndarray](), list[np.ndarray](), 0
    for size, k in enumerate(prints.sizes):
        if not prints.has_QS[queries, size].any():
            return
        for coordinate in range(done, k):
            local_E, place_E, entry_E = _column(prints.coordinate_QK[queries, coordinate], z_FG)
            value_E = values[entry_E]
            term_E = np.empty(len(value_E), dtype=np.complex128)
            term_E.real = value_E * prints.value_QK[queries, coordinate][local_E]
            term_E.imag = value_E * value_E
            sums[local_E * images + place_E] += term_E
            local.append(local_E)
            place.append(place_E)
        done = k
        local_M, place_M = np.concatenate(local), np.concatenate(place)
        yield size, Touched(queries, local_M, place_M, sums[local_M * images + place_M])


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


def _best(prints: Fingerprints, size: int, touched: Touched, rows: Rows, nearest: Nearest) -> Found:
    """Return the images that may enter a list; most are passed over by a look at its last place."""
    list_Q = touched.queries * len(prints.sizes) + size
    has_Q = prints.has_QS[touched.queries, size]
    least_Q = np.where(has_Q, np.maximum(nearest.similarity_LP[list_Q, -1], -2) - 10.0**-DIGITS, np.inf)
    own_Q, norm_Q = prints.value_QK[touched.queries, 0], prints.norm_QS[touched.queries, size]
    local_M, dot_M = touched.local_M, touched.sum_M.real
    if prints.sizes[size] == 1:
        own_M = own_Q[local_M]
        similarity_M = 1 / (1 + np.abs(dot_M / np.where(own_M > 0, own_M, 1) - own_M))
        near = np.flatnonzero(similarity_M >= least_Q[local_M])
        similarity_M = similarity_M[near]
    else:
        length_M = np.sqrt(touched.sum_M.imag)
        least_Q[has_Q] *= norm_Q[has_Q]
        near = np.flatnonzero(dot_M >= length_M * least_Q[local_M])
        length_M = length_M[near] * norm_Q[local_M[near]]
        similarity_M = np.divide(dot_M[near], length_M, out=np.zeros(len(near)), where=length_M > 0)
    local_M, place_M = local_M[near], touched.place_M[near]
    found = Found.of(list_Q[local_M], similarity_M, rows.row_G[place_M], rows.group_G[place_M])
    return entering(found, prints.group_Q[touched.queries[local_M]], nearest)


def entering(found: Found, own_M: np.ndarray, nearest: Nearest) -> Found:
    """Return those found that may enter their lists; `own_M` is the group of the query."""
    return found.take((found.group_M != own_M) & nearest.beaten(found.list_M, found.similarity_M, found.row_M))


def _silent(prints: Fingerprints, size: int, touched: Touched, rows: Rows, nearest: Nearest) -> Found:
    """Return images without any of a query's features, where they are near enough: the first of each group."""
    queries = touched.queries[prints.has_QS[touched.queries, size]]
    list_Q = queries * len(prints.sizes) + size
    own_Q = prints.value_QK[queries, 0]
    similarity_Q = np.round(1 / (1 + own_Q) if prints.sizes[size] == 1 else np.zeros(len(queries)), DIGITS)
    near = nearest.beaten(list_Q, similarity_Q, np.full(len(queries), rows.row_G.min(initial=0)))
    order = np.argsort(rows.row_G, kind="stable")
    found = []
    for query, number, similarity in zip(queries[near], list_Q[near], similarity_Q[near], strict=True):
        free_G = rows.group_G != prints.group_Q[query]
        free_G[touched.place_M[touched.local_M == query - touched.queries[0]]] = False
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
