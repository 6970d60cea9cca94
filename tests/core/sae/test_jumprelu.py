import pytest
import torch

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.jumprelu import JumpReLU
from tests.core.sae.planted import jumprelu_config, normalisation


def make(**other: object) -> JumpReLU:
    sae = build(jumprelu_config(width=4, **other), normalisation())
    assert isinstance(sae, JumpReLU)
    return sae


def test_values_above_their_threshold_are_kept_whole():
    sae = make()
    sae.threshold.data = torch.tensor([0.5, 1.0, 2.0, 0.0])
    assert sae.activate(torch.tensor([[1.0, 1.0, 3.0, -1.0]])).tolist() == [[1.0, 0.0, 3.0, 0.0]]


def test_thresholds_stay_at_zero_or_above():
    sae = make()
    sae.threshold.data.fill_(-1.0)
    sae.finish_step()
    assert not sae.threshold.any()


def test_the_bandwidth_follows_the_size_of_the_embeddings():
    assert make(bandwidth=0.1).bandwidth == pytest.approx(0.1)
    assert make(bandwidth=0.1, normalisation="none").bandwidth == pytest.approx(0.1 / 0.7)
    assert torch.equal(make().threshold, torch.full((4,), 0.5))


@pytest.mark.parametrize(("target", "sign"), [(0.5, -1), (3.5, 1)])
def test_a_target_pulls_thresholds_towards_itself(target, sign):
    sae = make(target_l0=target, l0=1.0)
    sae.threshold.data.fill_(0.5)
    losses = sae(torch.randn(50, 32, generator=torch.Generator().manual_seed(0)))
    l0 = losses.sparsity.item()
    assert 0.5 < l0 < 3.5
    penalty = losses.total - losses.mse
    assert penalty.item() == pytest.approx((l0 / target - 1) ** 2, rel=1e-4)
    (gradient,) = torch.autograd.grad(penalty, sae.threshold)
    assert (gradient.sign() * sign >= 0).all() and gradient.any()
