"""What a dictionary is like by itself, and how much of it another training run finds again.

Legend: M features, D embedding dimension; rows of a dictionary are features.
"""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
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


class Stability(NamedTuple):
    """How the features of one run are found again in another."""

    cosine_M: Tensor
    """Of every feature with its partner; partners are one to one, and chosen so that the cosines' sum is largest."""
    partner_M: Tensor
    """The partner's index; -1, with a cosine of 0, where the other run has fewer features and none is left."""

    def share(self, above: float = 0.9) -> float:
        """Share of features that have a partner at least so similar."""
        return float((self.cosine_M >= above).double().mean())


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


@torch.no_grad()
def stability(W_MD: Tensor, other_MD: Tensor) -> Stability:
    """Of decoder rows, matched to those of another run by the Hungarian method.

    Takes minutes at M = 16384 and memory for M x M cosines: it solves the assignment exactly.
    """
    cosine_MM = (F.normalize(W_MD.float(), dim=1) @ F.normalize(other_MD.float(), dim=1).T).cpu().numpy()
    mine, theirs = linear_sum_assignment(cosine_MM, maximize=True)
    partner = np.full(len(W_MD), -1)
    partner[mine] = theirs
    cosine = np.zeros(len(W_MD), dtype=np.float32)
    cosine[mine] = cosine_MM[mine, theirs]
    return Stability(torch.from_numpy(cosine), torch.from_numpy(partner))
