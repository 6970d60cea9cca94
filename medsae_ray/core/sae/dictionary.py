"""The coherence of the features of a dictionary.

Legend: M features, D embedding dimension; rows of a dictionary are features.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS = 2_048


class Coherence(NamedTuple):
    """The cosines between different features' decoder rows."""

    nearest_M: Tensor
    """The largest |cosine| of every feature with another one; 0 of a single feature."""
    largest: float
    """The coherence of the dictionary: the largest of them."""
    mean_square: float
    """The mean over all pairs; 1 / D for random directions, less for a better spread."""


@torch.no_grad()
def coherence(W_MD: Tensor) -> Coherence:
    """Compute the coherence of decoder rows; a row of zeros resembles no other."""
    unit_MD = F.normalize(W_MD.double(), dim=1)
    count = len(unit_MD)
    nearest, squares = [], 0.0
    for start in range(0, count, _ROWS):
        cosine_PM = unit_MD[start : start + _ROWS] @ unit_MD.T
        cosine_PM.diagonal(start).zero_()
        nearest.append(cosine_PM.abs().amax(1))
        squares += float(cosine_PM.square().sum())
    nearest_M = torch.cat(nearest)
    return Coherence(nearest_M, float(nearest_M.max()), squares / max(1, count * (count - 1)))
