"""What every architecture must do: conventions, losses against the plain formula, and where gradients go."""

import pytest
import torch
from torch import Tensor

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.model import SAE
from tests.core.sae.planted import BOTH, normalisation, relu_config, stir, topk_config

DEAD_J = torch.tensor([1, 5, 6, 40])


def stirred(make) -> SAE:
    config = make(l1=0.3) if make is relu_config else make(auxk=2, auxk_coefficient=0.2)
    return stir(build(config, normalisation()))


def batch(rows: int = 20, seed: int = 1) -> Tensor:
    return torch.randn(rows, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain_losses(
    sae: SAE, x_BD: Tensor, dead_J: Tensor, leaves: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(total, mse, sparsity, auxk) row by row and from the formulas, with nothing folded or gathered."""
    x_BD = (x_BD - sae.mean) * sae.scale
    h_BM = (x_BD - leaves["b_dec"]) @ leaves["W_enc"] + leaves["b_enc"]
    z_BM = torch.where(h_BM > 0, h_BM, 0)
    if hasattr(sae, "k"):
        order = z_BM.detach().flatten().sort(descending=True).indices[: sae.k * len(x_BD)]
        keep = torch.zeros(z_BM.numel(), dtype=torch.bool).index_fill(0, order, True).view_as(z_BM)
        z_BM = torch.where(keep, z_BM, 0)
    residual_BD = x_BD - (z_BM @ leaves["W_dec"] + leaves["b_dec"])
    mse = sum(row @ row for row in residual_BD) / len(x_BD)
    sparsity = sum(row.sum() for row in z_BM) / len(x_BD)
    if not hasattr(sae, "k"):
        return mse + 0.3 * sparsity, mse, sparsity, torch.zeros(())
    target_BD = residual_BD.detach()
    unexplained = torch.zeros(())
    for h_M, target_D in zip(h_BM, target_BD, strict=True):
        strongest = sorted(dead_J.tolist(), key=lambda j: -h_M[j].item())[: sae.auxk]
        guess_D = sum(h_M[j].relu() * leaves["W_dec"][j] for j in strongest)
        unexplained = unexplained + (target_D - guess_D).square().sum()
    auxk = unexplained / (target_BD - target_BD.mean(0)).square().sum()
    return mse + 0.2 * 32 * auxk, mse, sparsity, auxk


@pytest.mark.parametrize("make", BOTH)
def test_losses_and_gradients_are_those_of_the_plain_formula(make):
    sae, x_BD = stirred(make), batch()
    losses = sae(x_BD, DEAD_J)
    losses.total.backward()
    leaves = {name: p.detach().clone().requires_grad_() for name, p in sae.named_parameters()}
    expected = plain_losses(sae, x_BD, DEAD_J, leaves)
    expected[0].backward()
    for found, wanted in zip(losses[:4], expected, strict=True):
        torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-10, atol=1e-12)
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-8, atol=1e-11)


def gradients(sae: SAE, loss: Tensor) -> dict[str, Tensor | None]:
    names, parameters = zip(*sae.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True), strict=True))


@pytest.mark.parametrize("make", BOTH)
def test_the_error_moves_every_parameter_and_only_features_that_fired(make):
    sae = stirred(make)
    losses = sae(batch(rows=2), None)
    fired_M = losses.fired_M
    assert fired_M.any() and not fired_M.all()
    found = gradients(sae, losses.mse)
    for per_feature in (found["W_enc"].abs().sum(0), found["b_enc"].abs(), found["W_dec"].abs().sum(1)):
        assert torch.equal(per_feature > 0, fired_M)
    assert (found["b_dec"] != 0).all()


@pytest.mark.parametrize("make", BOTH)
def test_the_l1_norm_moves_the_encoder_and_never_the_decoder(make):
    sae = stirred(make)
    losses = sae(batch(rows=2), None)
    found = gradients(sae, losses.sparsity)
    assert torch.equal(found["b_enc"] > 0, losses.fired_M)
    assert torch.equal(found["W_enc"].abs().sum(0) > 0, losses.fired_M)
    assert (found["b_dec"] != 0).all()
    assert found["W_dec"] is None


def test_auxk_moves_encoder_and_decoder_of_dead_features_and_of_no_other():
    sae = stirred(topk_config)
    losses = sae(batch(), DEAD_J)
    dead_M = torch.zeros(48, dtype=torch.bool).index_fill(0, DEAD_J, True)
    found = gradients(sae, losses.auxk)
    for per_feature in (found["W_enc"].abs().sum(0), found["b_enc"].abs(), found["W_dec"].abs().sum(1)):
        assert torch.equal(per_feature > 0, dead_M)
    assert (found["b_dec"] != 0).all()


@pytest.mark.parametrize(
    ("make", "dead_J"),
    [(relu_config, DEAD_J), (topk_config, None), (topk_config, DEAD_J[:0])],
)
def test_auxk_is_exactly_absent_where_it_has_nothing_to_do(make, dead_J):
    losses = stirred(make)(batch(), dead_J)
    assert losses.auxk == 0 and not losses.auxk.requires_grad


def test_batch_topk_minimises_error_and_auxk_but_not_the_l1_norm():
    losses = stirred(topk_config)(batch(), DEAD_J)
    assert losses.auxk > 0
    torch.testing.assert_close(losses.total, losses.mse + 0.2 * 32 * losses.auxk)


@pytest.mark.parametrize("make", BOTH)
def test_encode_and_decode_work_on_raw_embeddings(make):
    sae, x_ND = stirred(make), batch()
    z_NM = sae.encode(x_ND)
    assert (z_NM >= 0).all()
    raw_ND = (z_NM @ sae.W_dec + sae.b_dec) / sae.scale + sae.mean
    torch.testing.assert_close(sae.decode(z_NM), raw_ND)
    torch.testing.assert_close(sae.encode(x_ND[3:4]), z_NM[3:4])


@pytest.mark.parametrize("make", BOTH)
def test_an_untrained_sae_follows_its_seed_and_has_unit_decoder_rows_tied_to_the_encoder(make):
    first, again, other = (build(make(seed=s), normalisation()) for s in (1, 1, 2))
    assert torch.equal(first.W_dec, again.W_dec) and not torch.equal(first.W_dec, other.W_dec)
    torch.testing.assert_close(first.W_dec.norm(dim=1), torch.ones(48))
    assert torch.equal(first.W_enc, first.W_dec.T)
    assert not first.b_enc.any() and not first.b_dec.any()


def test_a_projected_gradient_step_keeps_decoder_rows_near_unit_norm_and_normalising_ends_it():
    sae = build(relu_config(), normalisation())
    sae(batch().float()).total.backward()
    sae.project_decoder_gradient()
    assert (sae.W_dec.grad * sae.W_dec).sum(1).abs().max() < 1e-5 * sae.W_dec.grad.norm()
    assert sae.W_dec.grad.abs().sum() > 0
    with torch.no_grad():
        sae.W_dec += 1
    sae.normalise_decoder()
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))
