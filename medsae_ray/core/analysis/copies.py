"""Features whose activations are copies of each other: a dictionary wider than the data splits one feature into many,
each of which looks like a discovery of its own.

Legend: N images, F features, B features of a block.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

ALIKE = 0.9
"""The Pearson correlation of two features' activations over images above which one is a copy of the other."""
IMAGES = 20_000
"""The most images compared, spread evenly: a correlation of 0.9 is then known to 0.003."""
_ENTRIES = 1 << 22
"""The most correlations held at once."""


def spread(images: int, most: int = IMAGES) -> NDArray[np.int64]:
    """Return the numbers of the images that are compared, ascending."""
    return np.arange(images) if images <= most else np.linspace(0, images - 1, most).astype(np.int64)


def copies(x_NF: sparse.csr_array, alike: float = ALIKE) -> list[list[int]]:
    """Return groups of two or more features, ascending by their first, the most active, with which all others of the
    group correlate above `alike`. A feature is in one group at most; one that never changes is in none.

    From the most active to the least, each feature joins the first group whose leader it copies, so that no chain of
    small steps brings unlike features together. Only products of activations are added up, in blocks: memory does not
    grow with F^2, and two features that are never active together cost nothing.
    """
    x_NF = x_NF.astype(np.float64).tocsc()
    n = x_NF.shape[0]
    sum_F, square_F = (np.asarray(values.sum(axis=0)).ravel() for values in (x_NF, x_NF.multiply(x_NF)))
    variance_F = square_F - sum_F**2 / max(n, 1)
    varies_F = variance_F > 1e-9 * square_F
    order = np.flatnonzero(varies_F)[np.argsort(-np.diff(x_NF.indptr)[varies_F], kind="stable")]
    x_NF, mean_F, sd_F = x_NF[:, order], sum_F[order] / max(n, 1), np.sqrt(variance_F[order])
    leader_F = np.full(len(order), -1)
    step = max(1, _ENTRIES // max(1, len(order)))
    for start in range(0, len(order), step):
        block = slice(start, min(start + step, len(order)))
        r_BF = (x_NF[:, block].T @ x_NF).toarray() - n * np.outer(mean_F[block], mean_F)
        r_BF /= np.outer(sd_F[block], sd_F)
        for row, leader in zip(r_BF, range(block.start, block.stop), strict=True):
            if leader_F[leader] < 0:
                free = np.flatnonzero((row > alike) & (leader_F < 0))
                leader_F[free[free >= leader]] = leader
                leader_F[leader] = leader
    groups = [order[leader_F == leader].tolist() for leader in np.unique(leader_F)]
    return sorted((group[:1] + sorted(group[1:]) for group in groups if len(group) > 1), key=lambda group: group[0])
