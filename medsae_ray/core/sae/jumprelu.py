"""JumpReLU (Rajamanoharan et al. 2024, arXiv 2407.14435): a threshold per feature, learnt through an L0 penalty.

Legend: see model.py; the kernel of the straight-through estimates is the rectangle 1[|u| <= 1/2].
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE, Dead, Losses
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import support_above
from medsae_ray.core.sae.sparse_support import Support


class JumpReLU(SAE):
    """An SAE with z = h * 1[h > threshold] and loss = mse + l0 * L0, or mse + l0 * (L0 / target_l0 - 1)^2.

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
        """Return h where it exceeds the feature's threshold, 0 elsewhere [N, M]."""
        return h_NM * (h_NM > self.threshold)

    def support(self, h_BM: Tensor) -> Support:
        """Select the entries above the threshold less half a bandwidth: others have neither value nor gradient."""
        return support_above(h_BM, self.threshold - self.bandwidth / 2)

    def code(self, h_S: Tensor, support: Support) -> Tensor:
        """Return h at the support where it exceeds the threshold, with the straight-through gradient of the jump."""
        return torch.as_tensor(_Jump.apply(h_S, support.at(self.threshold), self.bandwidth)[0])

    def losses(self, x_BD: Tensor, h_S: Tensor, support: Support, dead: Dead | None) -> Losses:
        """Compute the losses; the threshold's gradients are straight-through estimates (equations 11 and 12 of the
        paper)."""
        z_S, active = _Jump.apply(h_S, support.at(self.threshold), self.bandwidth)
        mse = (x_BD - self.decoded(z_S, support)).square().sum(1).mean()
        l0, auxk = active / support.images, mse.new_zeros(())
        return Losses(self.objective(mse, l0, auxk), mse, l0, auxk, support.fired(z_S.detach()))

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """Return mse + l0 * L0 or, with `target_l0`, mse + l0 * (L0 / target_l0 - 1)^2, L0 over the global batch."""
        if self.target_l0 is None:
            return mse + self.l0 * sparsity
        # The square is of the global batch's L0; its gradient is linear in each rank's.
        excess = self.ranks.sum(sparsity.detach()) / self.ranks.world / self.target_l0 - 1
        slope = 2 * excess / self.target_l0
        return mse + self.l0 * (excess.square() + slope * (sparsity - sparsity.detach()))

    @torch.no_grad()
    def stretch(self, factor: float) -> None:
        """Scale the codes of an untrained SAE, and the thresholds with them."""
        super().stretch(factor)
        self.threshold.mul_(factor)

    @torch.no_grad()
    def silence(self, h_M: Tensor) -> None:
        """Set the thresholds to `h_M`, but at least to the bandwidth."""
        self.threshold.copy_(h_M.clamp_min(self.bandwidth))

    @torch.no_grad()
    def finish_step(self) -> None:
        """Bring decoder rows back to unit norm and thresholds to 0 or more."""
        super().finish_step()
        self.threshold.clamp_(min=0)


class _Jump(Function):
    """The jump as (z at the support, the number of active entries []); thresholds are one per entry, or one per feature
    if the support is everything."""

    @staticmethod
    def forward(ctx: Any, h_S: Tensor, threshold: Tensor, bandwidth: float) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(h_S, threshold)
        ctx.bandwidth = bandwidth
        active_S = h_S > threshold
        return h_S * active_S, torch.count_nonzero(active_S).to(h_S.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g_S: Tensor, g_active: Tensor) -> tuple[Tensor | None, ...]:
        h_S, threshold = ctx.saved_tensors
        over_S = h_S - threshold
        to_h_S = g_S * (over_S > 0)
        window_S = over_S.abs_() <= ctx.bandwidth / 2
        moved, counted = g_S * window_S, window_S
        if threshold.shape != h_S.shape:
            moved, counted = moved.sum(0), window_S.sum(0)
        return to_h_S, (threshold * moved + g_active * counted) / -ctx.bandwidth, None
