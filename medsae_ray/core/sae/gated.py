"""Gated SAE (Rajamanoharan et al. 2024, arXiv 2404.16014): the firing and the strength of features are separate.

Legend: see model.py.
"""

import torch
from torch import Tensor, nn

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE, Dead, Losses
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import support_above
from medsae_ray.core.sae.sparse_support import Support


class Gated(SAE):
    """An SAE with h = (x - b_dec) W_enc, z = 1[h + b_gate > 0] * relu(exp(r_mag) h + b_mag).

    loss = mse + l1 * mean_B sum_M relu(h + b_gate) + mean_B ||x - (relu(h + b_gate) W_dec + b_dec)||^2, where the last
    term's decoder is frozen: it teaches the gates, which the jump hides from the first. The L1 norm pushes down gates
    and not magnitudes, so codes do not shrink. Parameters b_gate, r_mag, b_mag [M] stand for b_enc.
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.l1 is not None
        self.l1 = config.l1
        self.b_enc = None
        self.b_gate = nn.Parameter(torch.zeros(config.width))
        self.b_mag = nn.Parameter(torch.zeros(config.width))
        self.r_mag = nn.Parameter(torch.zeros(config.width))

    def activate(self, h_NM: Tensor) -> Tensor:
        """Return 1[h + b_gate > 0] * relu(exp(r_mag) h + b_mag) [N, M]."""
        return (h_NM + self.b_gate > 0) * (self.r_mag.exp() * h_NM + self.b_mag).relu()

    def support(self, h_BM: Tensor) -> Support:
        """Select the entries whose gate is open; on a GPU, or if these are many, all entries."""
        return support_above(h_BM, -self.b_gate)

    def code(self, h_S: Tensor, support: Support) -> Tensor:
        """Compute magnitudes at the support, 0 where the gate is shut; gates get no gradient from here."""
        magnitude_S = (support.at(self.r_mag.exp()) * h_S + support.at(self.b_mag)).relu()
        return magnitude_S * (h_S.detach() > -support.at(self.b_gate.detach()))

    def losses(self, x_BD: Tensor, h_S: Tensor, support: Support, dead: Dead | None) -> Losses:
        """Compute the losses; `auxk` is the squared error of the gates' own reconstruction, by a frozen decoder."""
        z_S = self.code(h_S, support)
        gates_S = (h_S + support.at(self.b_gate)).relu()
        mse = (x_BD - self.decoded(z_S, support)).square().sum(1).mean()
        by_gates_BD = support.decode(gates_S, self.W_dec.detach(), self.low) + self.b_dec.detach()
        auxk = (x_BD - by_gates_BD).square().sum(1).mean()
        sparsity = self.sparsity(h_S, gates_S, support)
        return Losses(self.objective(mse, sparsity, auxk), mse, sparsity, auxk, support.fired(z_S.detach()))

    @torch.no_grad()
    def silence(self, h_M: Tensor) -> None:
        """Set the gates to open only where h exceeds `h_M`."""
        self.b_gate.copy_(-h_M)

    @torch.no_grad()
    def stretch(self, factor: float) -> None:
        """Scale the codes of an untrained SAE, and the gates' bias with them."""
        super().stretch(factor)
        self.b_gate.mul_(factor)

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """Return mse + l1 * sparsity + auxk."""
        return mse + self.l1 * sparsity + auxk
