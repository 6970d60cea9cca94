"""A choice of images that depends on their ids alone, and not on their order.

Legend: N images.
"""

import hashlib

import numpy as np


def drawn(image_N: np.ndarray, allowed_N: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return a mask of at most so many of the allowed images, chosen by a hash of their ids and the seed."""
    rows = np.flatnonzero(allowed_N)
    keys = [hashlib.sha256(f"{seed}:{image_id}".encode()).digest() for image_id in image_N[rows]]
    chosen_N = np.zeros(len(image_N), dtype=bool)
    chosen_N[rows[sorted(range(len(rows)), key=keys.__getitem__)[:most]]] = True
    return chosen_N
