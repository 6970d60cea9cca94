"""The control without anything learned: the same encoder with its weights drawn anew."""

import numpy as np
import torch

import medsae_ray
from medsae_ray.core.encoders.medclip import MedclipOptions
from medsae_ray.core.encoders.torch_encoder import draw_weights

WEIGHTS = "builtin:phantom-encoder"


def embedded(seed: int | None) -> np.ndarray:
    options = {} if seed is None else {"random_weights": seed}
    encoder = medsae_ray.load_encoder("medclip-vit", WEIGHTS, threads=1, **options)
    pixels = np.random.default_rng(0).integers(0, 256, (8, *encoder.preprocess.shape), np.uint8)
    found: np.ndarray = encoder.embed(pixels)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_a_seed_gives_one_encoder_that_knows_nothing_of_the_trained_one() -> None:
    trained, one, again, other = map(embedded, (None, 1, 1, 2))
    assert np.array_equal(one, again) and np.isfinite(one).all()
    for control in (one, other):
        assert abs((trained * control).sum(1).mean()) < 0.5
    assert not np.allclose(one, other, atol=0.1)


def test_every_tensor_keeps_its_mean_and_deviation() -> None:
    tower = torch.nn.Sequential(torch.nn.Linear(400, 300), torch.nn.LayerNorm(300))
    before = {name: weights.clone() for name, weights in tower.state_dict().items()}
    draw_weights(tower, 0)
    for name, weights in tower.state_dict().items():
        assert torch.allclose(weights.mean(), before[name].mean(), atol=0.01)
        assert torch.allclose(weights.std(), before[name].std(), atol=0.01)
    assert not torch.equal(tower[0].weight, before["0.weight"]) and torch.equal(tower[1].weight, before["1.weight"])


def test_only_a_control_changes_an_artifacts_name() -> None:
    assert "random_weights" not in MedclipOptions(kind="medclip-vit").identity()
    assert MedclipOptions(kind="medclip-vit", random_weights=0).identity()["random_weights"] == 0
