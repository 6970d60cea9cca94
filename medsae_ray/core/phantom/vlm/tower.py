"""The vision tower before training: SigLIP at a small geometry, started from knowledge about pictures.

A vision transformer learns slowly from few images, for it must learn neighbourhood from them. Here the patch
embedding starts as the whitened principal components of patches, and the heads of the first layers start by looking at
the eight neighbours of a patch, as a convolution does (Cordonnier et al., "On the Relationship between Self-Attention
and Convolutional Layers", ICLR 2020, theorem 1). All weights are trained further.

Legend: N images, S side; the patches are a square grid.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SiglipVisionModel

from medsae_ray.core.phantom.vlm.model import HEADS, PATCH, SIDE, TOWER, WIDTH

NEIGHBOURS = ([(-1, 0), (0, -1), (0, 1), (1, 0)], [(-1, -1), (-1, 1), (1, -1), (1, 1)])
"""The step to the patch, in rows and columns, that each head of the first and the second layer begins with."""
GRID, HEAD_WIDTH, WAVES = SIDE // PATCH, WIDTH // HEADS, 4
_W = 2 * math.pi / (GRID + 2) * torch.arange(1, WAVES + 1)
"""The angles per patch: enough to separate positions, few enough to leave room for the image."""
POSITION_WIDTH = 4 * WAVES
"""The first outputs of the embedding: sine and cosine of row and column."""


def normalise(x_NSS: Tensor) -> Tensor:
    """Turn grey levels 0..255, uint8 or float, into the tower's input: float32 [N, 3, S, S] in -1..1."""
    return (x_NSS.float() / 127.5 - 1)[:, None].expand(-1, 3, -1, -1)


def untrained(x_NSS: Tensor, seed: int = 0) -> SiglipVisionModel:
    """Return a tower to train; `x_NSS` are some films, whose patches the first layer whitens."""
    torch.manual_seed(seed)
    tower = SiglipVisionModel(TOWER)
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    _whiten(tower.embeddings.patch_embedding, x_NSS)
    _number(tower.embeddings.position_embedding)
    for layer, steps in zip(tower.encoder.layers, NEIGHBOURS, strict=False):
        attention: Any = layer.self_attn
        _look_beside(attention.q_proj, attention.k_proj, steps)
    return tower


@torch.no_grad()
def _number(embedding: nn.Embedding) -> None:
    """Set the first outputs to sine and cosine of row and column, stronger than the image's."""
    angles = torch.arange(GRID)[:, None] * _W
    waves = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = waves[:, None].expand(-1, GRID, -1), waves[None].expand(GRID, -1, -1)
    embedding.weight.zero_()
    embedding.weight[:, :POSITION_WIDTH] = 1.5 * torch.cat([rows, columns], 2).flatten(0, 1)


@torch.no_grad()
def _whiten(conv: nn.Conv2d, x_NSS: Tensor) -> None:
    """Set the outputs after the positions to principal components of patches, of equal variance."""
    grey = x_NSS.float() / 127.5 - 1
    patches = grey.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH).flatten(0, 2).flatten(1)
    patches = patches[torch.randperm(len(patches))[:40_000]]
    variance, basis = torch.linalg.eigh(torch.cov(patches.T))
    kept = WIDTH - POSITION_WIDTH
    weight = 0.3 * (basis[:, -kept:] / (variance[-kept:] + 1e-2).sqrt()).T.flip(0)
    bias = torch.zeros(WIDTH)
    bias[POSITION_WIDTH:] = -weight @ patches.mean(0)
    conv.weight.zero_()
    conv.weight[POSITION_WIDTH:] = weight.view(kept, 1, PATCH, PATCH) / conv.in_channels
    conv.load_state_dict({"weight": conv.weight, "bias": bias})


@torch.no_grad()
def _look_beside(query: nn.Linear, key: nn.Linear, steps: list[tuple[int, int]]) -> None:
    """Set queries and keys so that head h attends to the patch at steps[h]: sin(a + w d), cos(a + w d) of positions."""
    gain = HEAD_WIDTH**0.25
    for head, step in enumerate(steps):
        rows = slice(head * HEAD_WIDTH, (head + 1) * HEAD_WIDTH)
        query.weight[rows] = 0.1 * query.weight[rows] + gain * torch.block_diag(*map(_turn, step), _rest())
        key.weight[rows] = 0.1 * key.weight[rows] + gain * torch.block_diag(_turn(0), _turn(0), _rest())


def _turn(distance: int) -> Tensor:
    """Return the matrix that moves sines and cosines of a position (one axis) by some patches."""
    cosine, sine = (_W * distance).cos().diag(), (_W * distance).sin().diag()
    return torch.cat([torch.cat([cosine, sine], 1), torch.cat([-sine, cosine], 1)])


def _rest() -> Tensor:
    """Return zeros for the outputs after the positions."""
    return torch.zeros(HEAD_WIDTH - POSITION_WIDTH, WIDTH - POSITION_WIDTH)
