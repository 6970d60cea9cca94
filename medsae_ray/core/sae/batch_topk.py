"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410) with AuxK (Gao et al. 2024, arXiv 2406.04093, A.2).

Legend: see model.py; n = k times the rows of the global batch.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.ranks import Ranks

_MOMENTUM = 0.01
"""Weight of the newest batch in the running threshold."""


class BatchTopK(SAE):
    """In training the n largest positive h of the global batch are kept, whichever rows they are in.

    At inference z = h * 1[h > threshold], where the buffer `threshold` [] is a running mean of the smallest h that
    training kept (0 before the first batch), so that a row's code does not depend on its neighbours.
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.k is not None
        self.k = config.k
        self.auxk = config.auxk or max(1, config.d_in // 2)
        self.auxk_coefficient = config.auxk_coefficient
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor(0.0))

    def activate(self, h_NM: Tensor) -> Tensor:
        # The threshold is never negative, so this is a ReLU too.
        return h_NM * (h_NM > self.threshold)

    def select(self, h_BM: Tensor) -> Tensor:
        floor = smallest_kept(h_BM.detach(), self.k, self.ranks)
        if self.training:
            self._track(floor)
        return h_BM * (h_BM >= floor)

    def _track(self, floor: Tensor) -> None:
        moved = torch.where(self.threshold == 0, floor, self.threshold.lerp(floor, _MOMENTUM))
        self.threshold.copy_(torch.where(floor.isfinite(), moved, self.threshold))

    def auxiliary(self, h_BM: Tensor, residual_BD: Tensor, dead_J: Tensor | None) -> Tensor:
        """The `auxk` strongest dead features of each row reconstruct the residual, without b_dec; their squared error
        over the residual's variance in the global batch. Its gradient reaches the dead rows of W_dec and columns of
        W_enc, and the biases before h."""
        if self.auxk_coefficient == 0 or dead_J is None or len(dead_J) == 0:
            return h_BM.new_zeros(())
        h_BJ = h_BM[:, dead_J].relu()
        values, columns = h_BJ.topk(min(self.auxk, len(dead_J)), dim=1)
        z_BJ = torch.zeros_like(h_BJ).scatter(1, columns, values)
        error = (residual_BD - z_BJ @ self.W_dec[dead_J]).square().sum(1).mean()
        return error / variance(residual_BD, self.ranks).clamp_min(1e-12)

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """`auxk` is a share of variance and so, as E||x||^2 = D, is mse / D; Gao et al. weigh shares."""
        return mse + self.auxk_coefficient * len(self.b_dec) * auxk


def smallest_kept(h_BM: Tensor, k: int, ranks: Ranks) -> Tensor:
    """The smallest of the n largest h of the global batch that is positive []; inf if none is positive.

    h >= the result selects what a flat top-n over the ReLU of the global batch selects; entries that tie with the
    smallest are all kept, which makes the selection independent of how rows are spread over ranks.
    """
    n = k * len(h_BM) * ranks.world
    candidates = h_BM.flatten().topk(min(n, h_BM.numel()), sorted=False).values
    if ranks.world > 1:
        # A rank may hold all winners, so each offers n; those with fewer entries offer zeros, which never win.
        candidates = ranks.gather(F.pad(candidates, (0, n - len(candidates)))).topk(n, sorted=False).values
    return torch.where(candidates > 0, candidates, torch.inf).min()


def variance(x_BD: Tensor, ranks: Ranks) -> Tensor:
    """E||x - E x||^2 over the global batch []."""
    rows = len(x_BD) * ranks.world
    sums = ranks.sum(torch.cat([x_BD.sum(0), x_BD.square().sum()[None]]))
    return sums[-1] / rows - (sums[:-1] / rows).square().sum()
