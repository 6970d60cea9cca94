import torch

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.relu_l1 import ReluL1
from tests.core.sae.planted import normalisation, relu_config


def test_the_objective_weighs_the_l1_norm_by_l1():
    sae = build(relu_config(l1=0.25), normalisation())
    assert isinstance(sae, ReluL1)
    losses = sae(torch.randn(10, 32, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(losses.total, losses.mse + 0.25 * losses.sparsity)


def test_training_and_inference_select_alike():
    sae = build(relu_config(), normalisation())
    h_NM = torch.tensor([[-1.0, 0.0, 2.0]])
    assert sae.select(h_NM).tolist() == sae.activate(h_NM).tolist() == [[0.0, 0.0, 2.0]]
