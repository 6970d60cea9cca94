"""The start of training, if not from random directions of unit length without biases. Legend: see model.py."""

import torch
from torch import Tensor

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import unit
from medsae_ray.core.sae.rules import USED

_BLEND = 0.8
"""The share of the data in a start from data; the rest is random, so that features from one row can part."""
_ROWS = 4_096
"""The embeddings to which biases and the encoder's length are fitted."""
_BLOCK = 256
"""The rows or features processed at once, so that a start needs less memory than a step."""


@torch.no_grad()
def start(sae: SAE, x_ND: Tensor, config: SAEConfig) -> None:
    """Move an untrained SAE to the start of `init` and `start_l0`, by raw embeddings."""
    active = config.start_l0 if "start_l0" in USED[config.architecture] else None
    if config.init == "random" and active is None:
        return
    generator = torch.Generator().manual_seed(config.seed)
    order_N = torch.randperm(len(x_ND), generator=generator)
    if sae.kind != "centre":
        sae.b_dec.copy_(sae.mean)
    if config.init == "data":
        _near_rows(sae, x_ND, order_N)
    sample_BD = sae.eval().normalise(x_ND[order_N[:_ROWS]].to(sae.b_dec))
    if active is not None:
        sae.silence(_quantiles(sae, sample_BD, min(0.5, active / sae.width)))
    if config.init != "random":
        _fit_length(sae, sample_BD)


def _near_rows(sae: SAE, x_ND: Tensor, order_N: Tensor) -> None:
    """Start features near randomly chosen embeddings, as in saev (OSU-NLP)."""
    chosen_M = order_N.repeat(-(-sae.width // len(order_N)))[: sae.width]
    for features in torch.arange(sae.width).split(_BLOCK):
        rows_BD = sae.normalise(x_ND[chosen_M[features]].to(sae.b_dec)) - sae.b_dec
        sae.W_dec[features] = unit(_BLEND * unit(rows_BD) + (1 - _BLEND) * sae.W_dec[features])
    sae.W_enc.copy_(sae.W_dec.T)


def _quantiles(sae: SAE, x_BD: Tensor, share: float) -> Tensor:
    """Return, per feature, the h that this share of the rows exceeds [M]."""
    above = min(max(1, round(share * len(x_BD))), len(x_BD) - 1)
    bias_M = sae.b_dec @ sae.W_enc
    parts = zip(sae.W_enc.split(_BLOCK, dim=1), bias_M.split(_BLOCK), strict=True)
    return torch.cat([(x_BD @ W - bias).topk(above + 1, dim=0).values[-1] for W, bias in parts])


def _fit_length(sae: SAE, x_BD: Tensor) -> None:
    """Scale the encoder to the length of the best first reconstruction.

    With M / D features per dimension that all start at unit length, reconstructions are up to M / 2 D times too long,
    and training would first spend its steps on undoing that.
    """
    square = along = 0.0
    for x in x_BD.split(_BLOCK):
        guess_BD = sae.select(sae.pre_activations(x))[-len(x) :] @ sae.W_dec
        square += float(guess_BD.square().sum())
        along += float((guess_BD * (x - sae.b_dec)).sum())
    if along > 0:
        sae.stretch(along / square)
