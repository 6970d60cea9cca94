"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435): a threshold per feature, learnt through an L0 penalty.

Legend: see model.py; the kernel of the straight-through estimates is the rectangle 1[|u| <= 1/2].
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import support_of
from medsae_ray.core.sae.support import Support


class JumpReLU(SAE):
    """z = h * 1[h > threshold]; loss = mse + l0 * L0, or mse + l0 * (L0 / target_l0 - 1)^2.

    The parameter `threshold` [M] is the threshold itself and not its logarithm, whose steps shrink with it, and is kept
    at 0 or more. L0 and the jump have gradients for it alone, from the entries within half a bandwidth (equations 11
    and 12 of the paper).
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.l0 is not None
        self.l0, self.target_l0 = config.l0, config.target_l0
        self.bandwidth = config.bandwidth * (self.variance / config.d_in) ** 0.5
        self.threshold = nn.Parameter(torch.full((config.width,), self.bandwidth))

    def activate(self, h_NM: Tensor) -> Tensor:
        return h_NM * (h_NM > self.threshold)

    def support(self, h_BM: Tensor) -> Support:
        return support_of(h_BM > self.threshold - self.bandwidth / 2, h_BM)

    def code(self, h_S: Tensor, support: Support) -> Tensor:
        return torch.as_tensor(_Jump.apply(h_S, self._thresholds(h_S, support), self.bandwidth))

    def sparsity(self, h_S: Tensor, z_S: Tensor, support: Support) -> Tensor:
        active_S = torch.as_tensor(_Active.apply(h_S.detach(), self._thresholds(h_S, support), self.bandwidth))
        return active_S.sum() / support.images

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        if self.target_l0 is None:
            return mse + self.l0 * sparsity
        # The square is of the global batch's L0; its gradient is linear in each rank's.
        excess = self.ranks.sum(sparsity.detach()) / self.ranks.world / self.target_l0 - 1
        slope = 2 * excess / self.target_l0
        return mse + self.l0 * (excess.square() + slope * (sparsity - sparsity.detach()))

    @torch.no_grad()
    def finish_step(self) -> None:
        super().finish_step()
        self.threshold.clamp_(min=0)

    def _thresholds(self, h_S: Tensor, support: Support) -> Tensor:
        return support.at(self.threshold).expand_as(h_S)


class _Jump(Function):
    @staticmethod
    def forward(ctx: Any, h_S: Tensor, threshold_S: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(h_S, threshold_S)
        ctx.bandwidth = bandwidth
        return h_S * (h_S > threshold_S)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_S: Tensor) -> tuple[Tensor | None, ...]:
        h_S, threshold_S = ctx.saved_tensors
        window_S = (h_S - threshold_S).abs() <= ctx.bandwidth / 2
        return g_S * (h_S > threshold_S), -threshold_S / ctx.bandwidth * window_S * g_S, None


class _Active(Function):
    @staticmethod
    def forward(ctx: Any, h_S: Tensor, threshold_S: Tensor, bandwidth: float) -> Tensor:
        ctx.save_for_backward(h_S, threshold_S)
        ctx.bandwidth = bandwidth
        return (h_S > threshold_S).to(h_S.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_S: Tensor) -> tuple[Tensor | None, ...]:
        h_S, threshold_S = ctx.saved_tensors
        window_S = (h_S - threshold_S).abs() <= ctx.bandwidth / 2
        return None, -g_S * window_S / ctx.bandwidth, None
