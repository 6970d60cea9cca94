"""Where training starts, if not from random directions. Legend: see model.py."""

import torch
from torch import Tensor

from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import unit

_BLEND = 0.8
"""Share of the data in a start; the rest is random, so that features that start from one row can part."""


@torch.no_grad()
def start_from_data(sae: SAE, x_ND: Tensor, seed: int) -> None:
    """Features start near randomly chosen rows of the raw embeddings, b_dec at their mean.

    A feature that starts where data are is less likely to be silent from the start; saev (OSU-NLP) starts so.
    """
    generator = torch.Generator().manual_seed(seed)
    times = -(-sae.width // len(x_ND))
    chosen_M = torch.cat([torch.randperm(len(x_ND), generator=generator) for _ in range(times)])[: sae.width]
    if sae.kind != "centre":
        sae.b_dec.copy_(sae.mean)
    rows_MD = sae.normalise(x_ND[chosen_M].float()) - sae.b_dec
    start_MD = unit(_BLEND * unit(rows_MD) + (1 - _BLEND) * sae.W_dec)
    sae.W_dec.copy_(start_MD)
    sae.W_enc.copy_(start_MD.T)
