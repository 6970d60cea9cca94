"""The folding of a normalisation into an SAE's weights, so that other libraries can apply it to raw embeddings.

Legend: see model.py.
"""

from dataclasses import replace

import torch
from torch import Tensor

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import StoredSAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.errors import ArtifactError


@torch.no_grad()
def folded(stored: StoredSAE) -> StoredSAE:
    """Return an SAE with the same codes and reconstructions and normalisation none.

    An SAE sees scale (x - mean) there. So W_enc becomes scale there W_enc, W_dec becomes W_dec back / scale, and b_dec
    becomes b_dec back / scale + mean, while h, and so b_enc and every threshold, are unchanged. Decoder rows no longer
    have unit norm. Raises ArtifactError for normalisation l2: dividing by a row's own norm is not linear.
    """
    sae, config, _ = stored
    if config.normalisation == "none":
        return stored
    if config.normalisation == "l2":
        raise ArtifactError(
            "this SAE brings every embedding to unit norm (normalisation 'l2'), which no weights can do; "
            "train one with normalisation 'centre' or 'none'" + (", or export to sail" if config.compat else "")
        )
    settings = replace(config, normalisation="none", whiten=None)
    plain = build(settings, Normalisation(sae.mean.double(), float(sae.scale)))
    state = {name: tensor for name, tensor in sae.state_dict().items() if name not in ("there", "back")}
    scale = sae.scale.double()
    W_enc_DM, W_dec_MD, b_dec_D = sae.W_enc.double(), sae.W_dec.double(), sae.b_dec.double()
    state["W_enc"] = (scale * _times(sae.there, W_enc_DM)).float()
    state["W_dec"] = (_times(sae.back, W_dec_MD.T).T / scale).float()
    state["b_dec"] = (_times(sae.back, b_dec_D) / scale + sae.mean.double()).float()
    plain.load_state_dict(state)
    return StoredSAE(plain.eval(), settings, stored.provenance)


def _times(matrix_DD: Tensor | None, vectors: Tensor) -> Tensor:
    """Multiply by a whitening matrix; both are symmetric, so the side does not matter."""
    return vectors if matrix_DD is None else matrix_DD.double() @ vectors
