"""The losses of every architecture from the formulas of its paper: dense, with nothing folded, listed or gathered."""

from typing import NamedTuple

import torch
from torch import Tensor

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE


class Plain(NamedTuple):
    total: Tensor
    mse: Tensor
    sparsity: Tensor
    auxk: Tensor


def flat_top(h_BM: Tensor, n: int) -> Tensor:
    """True at the n largest entries."""
    order = h_BM.detach().flatten().sort(descending=True).indices[:n]
    return torch.zeros(h_BM.numel(), dtype=torch.bool).index_fill(0, order, True).view_as(h_BM)


def codes(config: SAEConfig, h_BM: Tensor) -> list[Tensor]:
    """The code of every level, each [B, M]; of the architectures with k."""
    rows, width = h_BM.shape
    if config.architecture == "topk":
        keep = torch.cat([flat_top(row[None], config.k) for row in h_BM])
        return [torch.where(keep, h_BM.relu(), 0)]
    if config.ks is None:
        z_BM = torch.where(flat_top(h_BM.relu(), config.k * rows), h_BM.relu(), 0)
        return [z_BM * (torch.arange(width) < level) for level in config.levels or (width,)]
    found = []
    for level, k in zip(config.levels, config.ks, strict=True):
        inside = torch.arange(width) < level
        candidates = h_BM if config.compat == "sail" else h_BM.relu()
        keep = flat_top(torch.where(inside, candidates, -torch.inf), k * rows)
        found.append(torch.where(keep & inside, candidates, 0))
    return found


def aux(config: SAEConfig, sae: SAE, h_BM: Tensor, residual_BD: Tensor, dead_J: Tensor, W_dec: Tensor) -> Tensor:
    unexplained = torch.zeros(())
    for h_M, target_D in zip(h_BM, residual_BD, strict=True):
        strongest = sorted(dead_J.tolist(), key=lambda j: -h_M[j].item())[: config.auxk]
        guess_D = sum(h_M[j].relu() * W_dec[j] for j in strongest)
        unexplained = unexplained + (target_D - guess_D).square().sum()
    return unexplained / (residual_BD - residual_BD.mean(0)).square().sum()


def plain(config: SAEConfig, sae: SAE, x_BD: Tensor, dead_J: Tensor, p: dict[str, Tensor]) -> Plain:
    """`p` holds the parameters; x is raw."""
    x_BD = sae.normalise(x_BD)
    h_BM = (x_BD - p["b_dec"]) @ p["W_enc"] + p.get("b_enc", 0)
    zero = torch.zeros(())

    def error(z_BM: Tensor, W_dec: Tensor, b_dec: Tensor) -> Tensor:
        return sum(row @ row for row in x_BD - (z_BM @ W_dec + b_dec)) / len(x_BD)

    if config.architecture == "relu_l1":
        z_BM = torch.where(h_BM > 0, h_BM, 0)
        mse, l1 = error(z_BM, p["W_dec"], p["b_dec"]), z_BM.sum() / len(x_BD)
        return Plain(mse + config.l1 * l1, mse, l1, zero)
    if config.architecture == "gated":
        gates_BM = (h_BM + p["b_gate"]).relu()
        z_BM = (gates_BM > 0) * (p["r_mag"].exp() * h_BM + p["b_mag"]).relu()
        mse, l1 = error(z_BM, p["W_dec"], p["b_dec"]), gates_BM.sum() / len(x_BD)
        frozen = error(gates_BM, p["W_dec"].detach(), p["b_dec"].detach())
        return Plain(mse + config.l1 * l1 + frozen, mse, l1, frozen)
    if config.architecture == "jumprelu":
        # Straight-through: value of the step, slope of the kernel for the threshold.
        theta, eps = p["threshold"], sae.bandwidth
        window = ((h_BM - theta).abs() < eps / 2).to(h_BM.dtype)
        active = (h_BM > theta).to(h_BM.dtype)
        z_BM = h_BM * active - (theta / eps * window).detach() * (theta - theta.detach())
        l0 = (active - window / eps * (theta - theta.detach())).sum() / len(x_BD)
        mse = error(z_BM, p["W_dec"], p["b_dec"])
        weighed = l0 if config.target_l0 is None else (l0 / config.target_l0 - 1).square()
        return Plain(mse + config.l0 * weighed, mse, l0, zero)
    W_dec = p.get("W_dec", sae.W_dec)
    levels = codes(config, h_BM)
    mse = sum(error(z_BM, W_dec, p["b_dec"]) for z_BM in levels) / len(levels)
    sparsity = sum(z_BM.sum() for z_BM in (levels if config.ks else levels[-1:])) / len(x_BD)
    sparsity = sparsity / len(levels) if config.ks else sparsity
    if config.compat == "sail":
        return Plain(mse, mse, sparsity, zero)
    residual_BD = (x_BD - (levels[-1] @ W_dec + p["b_dec"])).detach()
    auxk = aux(config, sae, h_BM, residual_BD, dead_J, W_dec)
    return Plain(mse + config.auxk_coefficient * sae.variance * auxk, mse, sparsity, auxk)
