"""The small vision transformers that ship with the package: a new one to train, their input and their embeddings.

Legend: N images, S side, D embedding dimension.
"""

import torch
from torch import Tensor, nn

from medsae_ray.core.encoders.medclip import MEAN, STD, SwinGeometry, build_vit
from medsae_ray.core.encoders.networks import VitTower


def untrained(geometry: SwinGeometry) -> VitTower:
    """Return a tower to train, without drop path; its weights scale by fan-in, as Swin's 0.02 is too small for it."""
    tower = build_vit(geometry)
    for module in tower.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0  # type: ignore[assignment]
    return tower


def normalise(x_NSS: Tensor) -> Tensor:
    """Turn uint8 grey levels into the encoder's input: float32 [N, 3, S, S]."""
    return ((x_NSS.float() / 255 - MEAN) / STD)[:, None].expand(-1, 3, -1, -1)


@torch.inference_mode()
def embed(tower: VitTower, x_NSS: Tensor) -> Tensor:
    """Compute embeddings [N, D]."""
    return torch.cat([tower(normalise(part)) for part in x_NSS.split(64)])
