"""The search through one block of embeddings: by their largest dimensions, or by all of them.

Legend: Q queries, S sizes of fingerprints, L lists, G images of the block, D embedding dimension.
"""

import numpy as np

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.retrieval.fingerprints import Fingerprints
from medsae_ray.core.retrieval.nearest import DIGITS, Found, Nearest
from medsae_ray.core.retrieval.search import Rows, entering


def cosines(x_QD: np.ndarray, x_GD: np.ndarray) -> Floats:
    """Return the cosines [Q, G] of whole embeddings; 0 for an embedding of zeros."""
    found: Floats = _unit_rows(x_QD) @ _unit_rows(x_GD).T
    return found


def search_dense(prints: Fingerprints, x_GD: np.ndarray, rows: Rows, nearest: Nearest) -> None:
    """Let the best of a block's embeddings into `nearest`, list q x S + s for size s of query q."""
    x_DG, term_G = np.ascontiguousarray(x_GD.T, dtype=np.float64), np.empty(len(x_GD))
    for query in range(len(prints)):
        dot_G, square_G = np.zeros(len(x_GD)), np.zeros(len(x_GD))
        done = 0
        for size, k in enumerate(prints.sizes):
            if not prints.has_QS[query, size]:
                break
            for place in range(done, k):
                value_G = x_DG[prints.coordinate_QK[query, place]]
                dot_G += np.multiply(value_G, prints.value_QK[query, place], out=term_G)
                square_G += np.multiply(value_G, value_G, out=term_G)
            done = k
            similarity_G = _similarity(prints, query, size, dot_G, square_G)
            _enter(query * len(prints.sizes) + size, similarity_G, prints.group_Q[query], rows, nearest)


def search_whole(cosine_QG: Floats, group_Q: np.ndarray, rows: Rows, nearest: Nearest) -> None:
    """Let the best of a block by the cosine of whole embeddings into `nearest`, list q for query q."""
    for query, cosine_G in enumerate(cosine_QG):
        _enter(query, cosine_G, group_Q[query], rows, nearest)


def _unit_rows(x_ND: np.ndarray) -> Floats:
    x = x_ND.astype(np.float64)
    norm = np.linalg.norm(x, axis=1, keepdims=True)
    rows: Floats = x / np.where(norm > 0, norm, 1)
    return rows


def _similarity(prints: Fingerprints, query: int, size: int, dot_G: Floats, square_G: Floats) -> Floats:
    if prints.sizes[size] == 1:  # |x - q|, from the square of x and its product with q
        near: Floats = 1 / (1 + np.abs(np.sign(dot_G) * np.sqrt(square_G) - abs(prints.value_QK[query, 0])))
        return near
    length_G = np.sqrt(square_G) * prints.norm_QS[query, size]
    cosine: Floats = np.divide(dot_G, length_G, out=np.zeros(len(dot_G)), where=length_G > 0)
    return cosine


def _enter(number: int, similarity_G: Floats, own: int, rows: Rows, nearest: Nearest) -> None:
    near = np.flatnonzero((similarity_G >= nearest.similarity_LP[number, -1] - 10.0**-DIGITS) & (rows.group_G != own))
    near = near[_best_groups(similarity_G[near], rows.group_G[near], nearest.row_LP.shape[1])]
    found = Found.of(np.full(len(near), number), similarity_G[near], rows.row_G[near], rows.group_G[near])
    nearest.add(entering(found, np.full(len(near), own), nearest))


def _best_groups(similarity_M: Floats, group_M: np.ndarray, n: int) -> np.ndarray:
    """Return places that hold the best of the n best groups: most of a block need not be sorted."""
    look = 4 * n
    while look < len(similarity_M):
        least = np.partition(similarity_M, -look)[-look] - 10.0**-DIGITS
        chosen = np.flatnonzero(similarity_M >= least)
        if len(np.unique(group_M[chosen])) >= n:
            return chosen
        look *= 4
    return np.arange(len(similarity_M))
