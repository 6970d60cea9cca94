"""Activations as lists of active features. Legend: N images, M features, A active pairs."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor


class SparseRows(NamedTuple):
    """The rows of active features. Row i holds entries offsets[i] to offsets[i + 1], as in an Arrow list array."""

    offsets: NDArray[np.int32]
    """The offsets [N + 1], from 0 to A."""
    indices: NDArray[np.int32]
    """The features [A], ascending within a row."""
    values: NDArray[np.float32]
    """The activations [A]."""


def sparse_rows(z_NM: Tensor) -> SparseRows:
    """Return the non-zero entries of `z_NM`, row by row."""
    rows, columns = z_NM.nonzero(as_tuple=True)
    offsets = np.zeros(len(z_NM) + 1, dtype=np.int32)
    offsets[1:] = np.cumsum((z_NM != 0).sum(1).cpu().numpy())
    values = z_NM[rows, columns].float().detach().cpu().numpy()
    return SparseRows(offsets, columns.cpu().numpy().astype(np.int32), values)
