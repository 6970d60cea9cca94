"""How spread out the features of a dictionary are.

Legend: M features, D embedding dimension; rows of a dictionary are features.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

_ROWS = 2_048


class Coherence(NamedTuple):
    """Cosines between different features' decoder rows."""

    nearest_M: Tensor
    """Of every feature with the one that is most like it, the sign left out; 0 of a single feature."""
    largest: float
    """The coherence of the dictionary: the largest of them."""
    mean_square: float
    """Over all pairs; 1 / D for random directions, less is better spread."""


@torch.no_grad()
def coherence(W_MD: Tensor) -> Coherence:
    """Of decoder rows; a row of zeros is like no other."""
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
