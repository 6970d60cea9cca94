"""Neuron resampling (Bricken et al. 2023, "Towards Monosemanticity"): features that fire on no row are reset.

After an epoch, a feature that was inactive throughout gets the direction of some row's residual, drawn by squared error
as there. Unlike there, this happens after every epoch but the last, its encoder gets the mean length of the others',
and by its bias it fires on a hundredth of the rows, or on fewer if the reset features would take more than a tenth of
all active entries.

Legend: see model.py; J inactive features.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from medsae_ray.core.sae.auxk import WithAuxK
from medsae_ray.core.sae.normalise import unit

_ROWS = 4_096
"""The embeddings for new directions and biases."""
_BLOCK = 512
_SHARE = 0.01
"""The share of rows on which a reset feature fires. With 0.002 most are inactive again an epoch later."""
_TAKEN = 0.1
"""The share of all active entries that reset features may take."""


class Fresh(NamedTuple):
    """The new parameters of inactive features."""

    W_JD: Tensor
    """The directions of unit length."""
    length: Tensor
    """The length of the encoder's columns []."""
    b_enc_J: Tensor


@torch.no_grad()
def resample(sae: WithAuxK, optimiser: torch.optim.Adam, silent_J: Tensor, x_ND: Tensor, seed: int) -> None:
    """Reset features, by raw embeddings, and Adam's moments of them. The result is the same on every rank."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randperm(len(x_ND), generator=generator)[:_ROWS]
    x_BD = sae.eval().normalise(x_ND[rows.to(x_ND.device)].to(sae.b_dec))
    # Ranks hold equal weights, but the last bits of a sum may differ between machines.
    fresh = Fresh(*map(sae.ranks.first, _fresh(sae, silent_J, x_BD, generator)))
    assert sae.b_enc is not None
    sae.W_dec[silent_J] = fresh.W_JD
    sae.W_enc[:, silent_J] = fresh.length * fresh.W_JD.T
    sae.b_enc[silent_J] = fresh.b_enc_J
    for parameter, axis in ((sae.W_dec, 0), (sae.W_enc, 1), (sae.b_enc, 0)):
        for moment in ("exp_avg", "exp_avg_sq"):
            optimiser.state[parameter][moment].index_fill_(axis, silent_J, 0)


def _fresh(sae: WithAuxK, silent_J: Tensor, x_BD: Tensor, generator: torch.Generator) -> Fresh:
    blocks = [_unexplained(sae, x) for x in x_BD.split(_BLOCK)]
    residual_BD, cut_B, active_B = (torch.cat(parts) for parts in zip(*blocks, strict=True))
    error_B = residual_BD.square().sum(1).double().cpu().clamp_min(1e-30)
    drawn_J = torch.multinomial(error_B, len(silent_J), replacement=len(silent_J) > len(error_B), generator=generator)
    W_JD = unit(residual_BD[drawn_J.to(residual_BD.device)])
    length_M = sae.W_enc.norm(dim=0)
    heard_M = torch.ones_like(length_M, dtype=torch.bool).index_fill_(0, silent_J, False)
    length = length_M[heard_M].mean() if bool(heard_M.any()) else length_M.mean()
    share = min(_SHARE, _TAKEN * float(active_B.float().mean()) / len(silent_J))
    fires = max(1, round(share * len(x_BD)))
    lacks = (cut_B[:, None] - length * (x_BD - sae.b_dec) @ W.T for W in W_JD.split(_BLOCK))
    return Fresh(W_JD, length, torch.cat([_bias(lack_BJ, fires) for lack_BJ in lacks]))


def _bias(lack_BJ: Tensor, fires: int) -> Tensor:
    """Return the bias that lifts so many rows above the cut, and none of them to the very edge [J]."""
    return lack_BJ.topk(min(fires + 1, len(lack_BJ)), dim=0, largest=False).values[-2:].mean(0)


def _unexplained(sae: WithAuxK, x_BD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return (residual of each row [B, D], the h above which a feature is active on it [B], active features [B])."""
    h_BM = sae.pre_activations(x_BD)
    z_BM = sae.activate(h_BM)
    return x_BD - sae.reconstruct(z_BM), sae.cut(h_BM), (z_BM > 0).sum(1)
