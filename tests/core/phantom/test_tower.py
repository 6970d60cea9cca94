"""The jobs that train the shipped encoders see an image as the encoders do."""

import numpy as np
import torch

from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.checkpoint import resolve
from medsae_ray.core.encoders.medclip import SwinGeometry
from medsae_ray.core.encoders.networks import load_released
from medsae_ray.core.phantom.tower import embed, untrained

WEIGHTS = "builtin:phantom-volumes-encoder"
GEOMETRY = SwinGeometry(
    image_size=96, patch_size=4, embed_dim=24, depths=(1, 2, 2), num_heads=(2, 4, 8), window_size=6, projection=128
)


def test_a_job_embeds_as_the_encoder_does() -> None:
    x_NSS = np.random.default_rng(0).integers(0, 256, (3, 96, 96), dtype=np.uint8)
    tower = untrained(GEOMETRY).eval()
    load_released(tower, resolve(WEIGHTS))
    encoded_ND = load_encoder("medclip-vit", WEIGHTS, threads=1).embed(x_NSS)
    np.testing.assert_allclose(embed(tower, torch.from_numpy(x_NSS)).numpy(), encoded_ND, rtol=1e-4, atol=1e-4)


def test_a_new_tower_depends_on_the_seed_alone() -> None:
    def weight(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return untrained(GEOMETRY).projection_head.weight

    assert torch.equal(weight(0), weight(0)) and not torch.equal(weight(0), weight(1))
