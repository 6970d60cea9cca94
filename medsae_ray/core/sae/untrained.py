"""The SAE before its first step of training: the control that says what training has added. Legend: see model.py."""

from collections.abc import Iterator

import torch
from torch import Tensor

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.init import start
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation, Whitening
from medsae_ray.core.sae.threshold import put_at

_ROWS = 1024


@torch.no_grad()
def untrained(trained: StoredSAE, x_ND: Tensor) -> SAE:
    """Return the SAE with the settings, seed and normalisation of a trained one, as training starts from it.

    What the start takes from data comes from the training rows `x_ND`, or a sample of them. Where sparsity is a
    threshold on all features (batch_topk, matryoshka), the rows set it so that k features are active on average.
    """
    sae = build(trained.config, _normalisation(trained.sae))
    start(sae, x_ND, trained.config)
    if isinstance(sae, BatchTopK):

        def blocks() -> Iterator[Tensor]:
            for x_BD in x_ND.split(_ROWS):
                yield sae.pre_activations(sae.normalise(x_BD))

        value, _ = put_at(blocks, sae.k * len(x_ND), Ranks(), x_ND.device)
        sae.threshold.copy_(value)
    return sae.eval()


def _normalisation(sae: SAE) -> Normalisation:
    there, back = sae.there, sae.back
    whitening = None if there is None or back is None else Whitening(there.double(), back.double())
    return Normalisation(sae.mean.double(), float(sae.scale), whitening)
