"""AuxK (Gao et al. 2024, arXiv 2406.04093, A.2): dead features are revived by explaining the others' residual.

Legend: see model.py.
"""

from abc import abstractmethod

import torch
from torch import Tensor

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.model import SAE, Dead
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.sparse_support import AffineEncoder, Everything, Support


class WithAuxK(SAE):
    """An SAE whose code has a fixed number of entries, so that the error moves only features that win."""

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        self.auxk = config.auxk or max(1, config.d_in // 2)
        self.auxk_coefficient = config.auxk_coefficient
        self.resamples = config.architecture == "topk" if config.resample is None else config.resample

    @abstractmethod
    def cut(self, h_NM: Tensor) -> Tensor:
        """Return the value that h has to exceed to be active at inference [N]."""

    def code(self, h_S: Tensor, support: Support) -> Tensor:
        """Apply a ReLU to h at the support."""
        return h_S.relu()

    def auxiliary(self, x_BD: Tensor, residual_LBD: Tensor, dead: Dead | None) -> Tensor:
        """Reconstruct the residual from the `auxk` strongest dead features of each row, and return their squared error
        over the residual's variance in the global batch. Its gradient reaches the dead rows of W_dec and columns of
        W_enc, and the biases before h."""
        if dead is None:
            return residual_LBD.new_zeros(())
        residual_BD = residual_LBD.reshape(-1, *x_BD.shape)[-1]
        dead_J = dead.dead_J
        encoder = AffineEncoder(self.W_enc[:, dead_J], None if self.b_enc is None else self.b_enc[dead_J], self.b_dec)
        support = Everything(len(x_BD))
        h_BJ = support.pick(dead.h_BJ, x_BD, encoder, self.low).relu()
        values, columns = h_BJ.topk(min(self.auxk, len(dead_J)), dim=1)
        z_BJ = torch.zeros_like(h_BJ).scatter(1, columns, values)
        error = (residual_BD - support.decode(z_BJ, self.W_dec[dead_J], self.low)).square().sum(1).mean()
        return error / variance(residual_BD, self.ranks).clamp_min(1e-12)

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """Weigh shares of variance as Gao et al. do: `auxk` is one, and so is mse over the embeddings' variance."""
        return mse + self.auxk_coefficient * self.variance * auxk

    def _dead(self, h_BM: Tensor, dead_J: Tensor | None) -> Dead | None:
        return super()._dead(h_BM, dead_J) if self.auxk_coefficient else None


def variance(x_BD: Tensor, ranks: Ranks) -> Tensor:
    """Return E||x - E x||^2 over the global batch []."""
    rows = len(x_BD) * ranks.world
    sums = ranks.sum(torch.cat([x_BD.sum(0), x_BD.square().sum()[None]]))
    return sums[-1] / rows - (sums[:-1] / rows).square().sum()
