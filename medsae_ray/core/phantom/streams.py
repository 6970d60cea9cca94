"""Named random streams: every draw of the generator comes from a stream of its own name."""

from zlib import crc32

import numpy as np


def stream(seed: int, *path: int | str) -> np.random.Generator:
    """Return the random generator of a seed and a path of numbers and words; equal names give equal draws."""
    words = [crc32(part.encode()) if isinstance(part, str) else part for part in path]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *words])))
