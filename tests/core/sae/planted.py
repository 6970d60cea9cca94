"""Embeddings made of known atoms, for tests that need something to find."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation
from tests.support.usual import sae_config


class Planted(NamedTuple):
    atoms_AD: Tensor
    """Unit rows."""
    train_ND: Tensor
    heldout_ND: Tensor


def planted(rows: int = 1500, dim: int = 32, atoms: int = 32, active: int = 3, seed: int = 0) -> Planted:
    """Sparse positive mixtures of unit atoms, off centre, with a little noise."""
    generator = torch.Generator().manual_seed(seed)
    atoms_AD = F.normalize(torch.randn(atoms, dim, generator=generator), dim=1)
    on_NA = torch.rand(rows + 300, atoms, generator=generator) < active / atoms
    strength_NA = 0.5 + torch.rand(rows + 300, atoms, generator=generator)
    noise_ND = 0.02 * torch.randn(rows + 300, dim, generator=generator)
    x_ND = 3 * (on_NA * strength_NA) @ atoms_AD + 1 + noise_ND
    return Planted(atoms_AD, x_ND[:rows], x_ND[rows:])


def relu_config(**other: object) -> SAEConfig:
    return sae_config(**{"architecture": "relu_l1", "d_in": 32, "width": 48, "l1": 1.0, "batch_size": 100, **other})


def topk_config(**other: object) -> SAEConfig:
    return sae_config(**{"architecture": "batch_topk", "d_in": 32, "width": 48, "k": 3, "batch_size": 100, **other})


def row_topk_config(**other: object) -> SAEConfig:
    return topk_config(**{"architecture": "topk", **other})


def jumprelu_config(**other: object) -> SAEConfig:
    return relu_config(**{"architecture": "jumprelu", "l1": None, "l0": 0.3, "bandwidth": 0.5, **other})


def gated_config(**other: object) -> SAEConfig:
    return relu_config(**{"architecture": "gated", **other})


def matryoshka_config(**other: object) -> SAEConfig:
    return topk_config(**{"architecture": "matryoshka", "levels": [16, 32, 48], **other})


def per_level_config(**other: object) -> SAEConfig:
    return matryoshka_config(**{"selection": "per_level", "k": None, "ks": [2, 3, 4], **other})


def sail_config(**other: object) -> SAEConfig:
    return per_level_config(**{"compat": "sail", "normalisation": "l2", **other})


PENALISED = (relu_config, jumprelu_config, gated_config)
WITH_AUXK = (topk_config, row_topk_config, matryoshka_config, per_level_config)
CENTRED = (*PENALISED, *WITH_AUXK)
ALL = (*CENTRED, sail_config)
NORMALISED = [
    *((make, {}) for make in ALL),
    (topk_config, {"whiten": 1e-3}),
    (relu_config, {"normalisation": "none"}),
    (relu_config, {"normalisation": "l2"}),
]
"""(config, other settings): every architecture, and every normalisation."""


def stir(sae: SAE, seed: int = 0) -> SAE:
    """Weights in float64 with no symmetry left: nothing is zero, nor the transpose of something else."""
    generator = torch.Generator().manual_seed(seed)
    sae.double()
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return sae


def normalisation(dim: int = 32) -> Normalisation:
    return Normalisation(torch.linspace(-1, 1, dim, dtype=torch.float64), 0.7)
