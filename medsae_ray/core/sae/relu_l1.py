"""The SAE of MedSAE (arXiv 2510.26411): ReLU features under an L1 penalty. Legend: see model.py."""

import torch
from torch import Tensor

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import support_above
from medsae_ray.core.sae.sparse_support import Support


class ReluL1(SAE):
    """An SAE with z = relu(h); loss = mse + l1 * mean_B sum_M z, for unit decoder rows sum_M z ||W_dec row||."""

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.l1 is not None
        self.l1 = config.l1

    def activate(self, h_NM: Tensor) -> Tensor:
        """Return relu(h) [N, M]."""
        return h_NM.relu()

    def support(self, h_BM: Tensor) -> Support:
        """Select the positive entries; on a GPU, or if these are many, all entries."""
        return support_above(h_BM, 0)

    def code(self, h_S: Tensor, support: Support) -> Tensor:
        """Apply a ReLU to h at the support, in place."""
        return h_S.relu_()

    @torch.no_grad()
    def silence(self, h_M: Tensor) -> None:
        """Set b_enc to -h_M: starting from biases of 0, a feature is then active only where its h exceeds `h_M`."""
        assert self.b_enc is not None
        self.b_enc.copy_(-h_M)

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """Return mse + l1 * sparsity."""
        return mse + self.l1 * sparsity
