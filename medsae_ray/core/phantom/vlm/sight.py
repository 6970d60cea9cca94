"""The lessons of the vision tower: the concepts of a film, and the patches that a finding fills.

Each finding can be taken out of a study, so the difference of two renderings shows its place; this compensates for the
few films that a CPU can train on.

Legend: N films, S side, T patches of the tower, D its width, P pooled tokens, K concepts, F findings.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medsae_ray.core.phantom.study import FINDINGS
from medsae_ray.core.phantom.vlm.concepts import NAMES
from medsae_ray.core.phantom.vlm.films import Films
from medsae_ray.core.phantom.vlm.lessons import pool
from medsae_ray.core.phantom.vlm.model import PATCH, SIDE

BATCH, SHIFT = 32, 8


class Heads(nn.Module):
    """The heads that are trained on the tower and then dropped."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.where, self.what = nn.Linear(width, len(NAMES)), nn.Linear(width, len(NAMES))
        self.spots = nn.Linear(width, len(FINDINGS))

    def forward(self, tokens_NTD: Tensor) -> Tensor:
        """Return logits [N, K]: each concept attends to the pooled tokens by itself, as a question will."""
        pooled_NPD = pool(tokens_NTD)
        logits_NK: Tensor = (self.where(pooled_NPD).softmax(1) * self.what(pooled_NPD)).sum(1)
        return logits_NK

    def loss(self, tokens_NTD: Tensor, films: Films) -> Tensor:
        """Compute the cross-entropy of the concepts and, weighted twice, of the patches that findings fill."""
        bce = functional.binary_cross_entropy_with_logits
        spots = bce(self.spots(tokens_NTD), films.w_NTF, pos_weight=torch.tensor(4.0))
        return bce(self(tokens_NTD), films.y_NK.float()) + 2 * spots


def batches(films: Films, rng: np.random.Generator) -> Iterator[Films]:
    """Yield one epoch in random order; each batch is shifted by a few pixels and varied in exposure."""
    order = rng.permutation(len(films.x_NSS))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        rows = torch.from_numpy(order[start : start + BATCH])
        shift = tuple(int(k) for k in rng.integers(-SHIFT, SHIFT + 1, 2))
        x_NSS = torch.roll(films.x_NSS[rows], shift, (1, 2)).float()
        gain = torch.from_numpy(rng.uniform(0.92, 1.08, (BATCH, 1, 1)).astype(np.float32))
        offset = torch.from_numpy(rng.uniform(-8, 8, (BATCH, 1, 1)).astype(np.float32))
        yield Films((x_NSS * gain + offset).clamp(0, 255), films.y_NK[rows], filled(films.w_NTF[rows], shift))


def filled(w_NTF: Tensor, shift: tuple[int, ...]) -> Tensor:
    """Return w [N, T, F] of the tower's patches from that of the films' cells; 1 if a quarter or more is filled."""
    n, cells, findings = w_NTF.shape
    side, grid = int(cells**0.5), SIDE // PATCH
    steps = [round(pixels * side / SIDE) for pixels in shift]
    maps = w_NTF.view(n, side, side, findings).roll(steps, (1, 2))
    share = maps.view(n, grid, side // grid, grid, side // grid, findings).float().mean((2, 4)) / 255
    return (4 * share).clamp(max=1).flatten(1, 2)
