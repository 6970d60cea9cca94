"""Where training starts, if not from random directions of unit length. Legend: see model.py."""

import torch
from torch import Tensor

from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import unit

_BLEND = 0.8
"""Share of the data in a start from data; the rest is random, so that features that start from one row can part."""
_ROWS = 4_096
"""Embeddings that the encoder's length is fitted to."""


@torch.no_grad()
def start(sae: SAE, x_ND: Tensor, init: str, seed: int) -> None:
    """Move an untrained SAE to where `init` ("scaled" or "data") says, by raw embeddings."""
    generator = torch.Generator().manual_seed(seed)
    order_N = torch.randperm(len(x_ND), generator=generator)
    if sae.kind != "centre":
        sae.b_dec.copy_(sae.mean)
    if init == "data":
        _near_rows(sae, x_ND, order_N)
    _fit_length(sae.eval(), x_ND[order_N[:_ROWS]].float())


def _near_rows(sae: SAE, x_ND: Tensor, order_N: Tensor) -> None:
    """Features start near randomly chosen embeddings, as in saev (OSU-NLP)."""
    chosen_M = order_N.repeat(-(-sae.width // len(order_N)))[: sae.width]
    rows_MD = sae.normalise(x_ND[chosen_M].float()) - sae.b_dec
    start_MD = unit(_BLEND * unit(rows_MD) + (1 - _BLEND) * sae.W_dec)
    sae.W_dec.copy_(start_MD)
    sae.W_enc.copy_(start_MD.T)


def _fit_length(sae: SAE, x_BD: Tensor) -> None:
    """Give the encoder the length at which the first reconstruction is best.

    With M / D features per dimension that all start at unit length, reconstructions are up to M / 2 D times too long,
    and training first spends its steps on taking that back.
    """
    x_BD = sae.normalise(x_BD)
    z_BM = sae.select(sae.pre_activations(x_BD))[-len(x_BD) :]
    guess_BD = z_BM @ sae.W_dec
    square = float(guess_BD.square().sum())
    factor = float((guess_BD * (x_BD - sae.b_dec)).sum()) / square if square > 0 else 1.0
    if factor > 0:
        sae.stretch(factor)
