"""TopK (Gao et al. 2024, arXiv 2406.04093): every image keeps its k largest features. Legend: see model.py."""

import torch
from torch import Tensor

from medsae_ray.core.sae.auxk import WithAuxK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import row_top
from medsae_ray.core.sae.sparse_support import Pairs


class TopK(WithAuxK):
    """An SAE with z = relu of a row's k largest h, 0 elsewhere, in training and at inference; loss = mse, and AuxK."""

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.k is not None
        self.k = config.k

    def activate(self, h_NM: Tensor) -> Tensor:
        """Return relu of each row's k largest h, 0 elsewhere [N, M]."""
        values_NK, columns_NK = row_top(h_NM, self.k)
        return torch.zeros_like(h_NM).scatter(1, columns_NK, values_NK.relu())

    def cut(self, h_NM: Tensor) -> Tensor:
        """Return each row's k-th largest h, or 0 if it is negative [N]."""
        return row_top(h_NM, self.k)[0].amin(1).relu()

    def support(self, h_BM: Tensor) -> Pairs:
        """Select each row's k largest entries."""
        values_BK, columns_BK = row_top(h_BM, self.k)
        rows_A = torch.arange(len(h_BM), device=h_BM.device).repeat_interleave(self.k)
        return Pairs(rows_A, columns_BK.flatten(), values_BK.flatten(), (len(h_BM), self.width))
