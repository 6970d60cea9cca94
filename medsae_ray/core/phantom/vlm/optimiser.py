"""The optimiser of the small model: Muon for the matrices of the layers, AdamW for all other weights."""

import torch
from torch import Tensor, nn

DECAY, MOMENTUM = 0.02, 0.95


class Muon(torch.optim.Optimizer):
    """An optimiser by orthogonal momentum in float32 (torch's own is in bfloat16, slow on CPUs without it).

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024; the scale is that of Liu et al.,
    "Muon is scalable for LLM training", 2025, so that AdamW's rates apply.
    """

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - MOMENTUM)
                update = orthogonal(p.grad.lerp(momentum, MOMENTUM)) * (0.2 * max(p.shape) ** 0.5)
                p.mul_(1 - group["lr"] * DECAY).add_(update, alpha=-group["lr"])


def orthogonal(g_MN: Tensor) -> Tensor:
    """Bring a matrix's singular values to about 1 (0.7 to 1.2) by five steps of Newton and Schulz."""
    x: Tensor = g_MN.T if g_MN.shape[0] > g_MN.shape[1] else g_MN
    x = x / (x.norm() + 1e-7)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    return x.T if g_MN.shape[0] > g_MN.shape[1] else x


class Optimiser:
    """The pair of optimisers at one rate: warm-up, a level stretch, then a straight line down to 0."""

    def __init__(self, model: nn.Module, rate: float) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        matrices = {name for name, p in trained.items() if p.ndim == 2 and "layers." in name}
        rest = [p for name, p in trained.items() if name not in matrices]
        self.rate, self.parameters = rate, list(trained.values())
        self.parts = [
            Muon([trained[name] for name in sorted(matrices)], {"lr": rate}),
            torch.optim.AdamW(rest, lr=rate, weight_decay=DECAY),
        ]

    def step(self, loss: Tensor, share: float) -> None:
        """Take a step down the loss; `share` of all the work is done."""
        for p in self.parameters:
            p.grad = None
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for part in self.parts:
            for group in part.param_groups:
                group["lr"] = self.rate * max(min(share / 0.04, (1 - share) / 0.6, 1.0), 0.01)
            part.step()
