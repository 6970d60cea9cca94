import torch

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.gated import Gated
from tests.core.sae.planted import gated_config, normalisation


def make(**other: object) -> Gated:
    sae = build(gated_config(width=3, **other), normalisation())
    assert isinstance(sae, Gated)
    return sae


def test_gates_decide_and_magnitudes_speak():
    sae = make()
    sae.b_gate.data = torch.tensor([-2.0, 0.5, 0.0])
    sae.b_mag.data = torch.tensor([1.0, 1.0, -5.0])
    sae.r_mag.data = torch.log(torch.tensor([2.0, 2.0, 1.0]))
    # Silent although large, active although h is below 0, and open with nothing to say.
    assert torch.allclose(sae.activate(torch.tensor([[1.0, -0.25, 1.0]])), torch.tensor([[0.0, 0.5, 0.0]]))


def test_the_l1_norm_is_that_of_the_gates():
    x_BD = torch.randn(10, 32, generator=torch.Generator().manual_seed(0))
    sae = make(l1=2.0)
    before = sae(x_BD)
    sae.r_mag.data += 1
    after = sae(x_BD)
    assert torch.equal(after.sparsity, before.sparsity) and after.mse != before.mse
    torch.testing.assert_close(after.total, after.mse + 2 * after.sparsity + after.auxk)
