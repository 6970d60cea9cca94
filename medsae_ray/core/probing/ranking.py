"""The order in which columns enter a probe of n of them.

Legend: N images, K columns, S strengths of the penalty, T targets, P ranked columns.
"""

import hashlib

import numpy as np

from medsae_ray.core.analysis.values import Bools, Floats, Ints


def by_path(weight_SK: Floats, chosen: int, varies_K: Bools, most: int) -> Ints:
    """Return the `most` columns [P] of largest |weight| at the chosen strength, the strongest first.

    Columns that the penalty left out follow in the order in which weaker penalties let them in, then those of equal
    weight by number. A column that does not vary is never there. Strengths ascend, as penalties grow weaker.
    """
    size_SK = np.abs(weight_SK)
    keys = [-size_K for size_K in (*size_SK[chosen:], *size_SK[:chosen][::-1])]
    order = np.lexsort([np.arange(len(varies_K)), *keys[::-1]])
    return np.asarray(order[varies_K[order]][:most], dtype=np.int64)


def by_group(weight_TK: Floats, varies_K: Bools, most: int) -> Ints:
    """Return the `most` columns [P] of largest mean |weight| over the targets of a group: SAIL's order, one for all."""
    return by_path(np.abs(weight_TK).mean(axis=0)[None], 0, varies_K, most)


def by_chance(varies_K: Bools, most: int, seed: int, name: str) -> Ints:
    """Return `most` columns [P] that vary, in an order drawn from the seed and the target's name."""
    return np.asarray(rng_of(seed, "columns", name).permutation(np.flatnonzero(varies_K))[:most], dtype=np.int64)


def rng_of(seed: int, use: str, name: str) -> np.random.Generator:
    """Return a generator that depends on nothing but the seed, the use and a name: not on the order of targets."""
    digest = hashlib.blake2b(f"{seed}\0{use}\0{name}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))
