"""What every architecture must do: conventions, losses against the plain formula, and where gradients go."""

import pytest
import torch
from torch import Tensor

from medsae_ray.core.sae import select
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.model import SAE
from tests.core.sae.plain import plain
from tests.core.sae.planted import (
    ALL,
    PENALISED,
    WITH_AUXK,
    gated_config,
    jumprelu_config,
    matryoshka_config,
    normalisation,
    per_level_config,
    relu_config,
    row_topk_config,
    sail_config,
    stir,
    topk_config,
)

DEAD_J = torch.tensor([1, 5, 6, 40])


def settings(make, **other: object) -> SAEConfig:
    return make(auxk=2, auxk_coefficient=0.2, **other) if make in WITH_AUXK else make(**other)


def stirred(make, **other: object) -> SAE:
    return stir(build(settings(make, **other), normalisation()))


def batch(rows: int = 20, seed: int = 1) -> Tensor:
    return torch.randn(rows, 32, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize(
    ("make", "other"),
    [(make, {}) for make in ALL] + [(jumprelu_config, {"target_l0": 5.0}), (topk_config, {"normalisation": "none"})],
)
def test_losses_and_gradients_are_those_of_the_plain_formula(make, other, listed, monkeypatch):
    monkeypatch.setattr(select, "_SPARSE", 1.0 if listed else -1.0)
    sae, x_BD = stirred(make, **other), batch()
    losses = sae(x_BD, DEAD_J)
    losses.total.backward()
    leaves = {name: p.detach().clone().requires_grad_() for name, p in sae.named_parameters()}
    expected = plain(settings(make, **other), sae, x_BD, DEAD_J, leaves)
    expected.total.backward()
    for found, wanted in zip(losses[:4], expected, strict=True):
        torch.testing.assert_close(found.double(), wanted.double(), rtol=1e-9, atol=1e-11)
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("make", ALL)
def test_in_float32_too(make, monkeypatch):
    monkeypatch.setattr(select, "_SPARSE", 1.0)
    sae = stirred(make).float()
    x_BD = batch(40).float()
    sae(x_BD, DEAD_J).total.backward()
    leaves = {name: p.detach().clone().requires_grad_() for name, p in sae.named_parameters()}
    plain(settings(make), sae, x_BD, DEAD_J, leaves).total.backward()
    for name, parameter in sae.named_parameters():
        torch.testing.assert_close(parameter.grad, leaves[name].grad, rtol=1e-4, atol=1e-5)


def gradients(sae: SAE, loss: Tensor) -> dict[str, Tensor | None]:
    names, parameters = zip(*sae.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True), strict=True))


ENCODER = {"W_enc", "b_enc", "b_dec"}
FOUR = {*ENCODER, "W_dec"}
GATES = {"W_enc", "b_gate", "b_dec"}
FLOW = {
    relu_config: {"mse": FOUR, "sparsity": ENCODER, "auxk": set(), "total": FOUR},
    jumprelu_config: {
        "mse": {*FOUR, "threshold"},
        "sparsity": {"threshold"},
        "auxk": set(),
        "total": {*FOUR, "threshold"},
    },
    gated_config: {
        "mse": {"W_enc", "W_dec", "b_dec", "r_mag", "b_mag"},
        "sparsity": GATES,
        "auxk": GATES,
        "total": {*GATES, "W_dec", "r_mag", "b_mag"},
    },
    sail_config: {"mse": ENCODER, "sparsity": ENCODER, "auxk": set(), "total": ENCODER},
} | {make: {"mse": FOUR, "sparsity": ENCODER, "auxk": FOUR, "total": FOUR} for make in WITH_AUXK}


@pytest.mark.parametrize("listed", [False, True])
@pytest.mark.parametrize("term", ["mse", "sparsity", "auxk", "total"])
@pytest.mark.parametrize("make", ALL)
def test_every_loss_moves_the_parameters_that_it_should_and_no_other(make, term, listed, monkeypatch):
    monkeypatch.setattr(select, "_SPARSE", 1.0 if listed else -1.0)
    sae = stirred(make)
    loss = getattr(sae(batch(), DEAD_J), term)
    found = gradients(sae, loss) if loss.requires_grad else dict.fromkeys(dict(sae.named_parameters()))
    moved = {name for name, gradient in found.items() if gradient is not None and gradient.abs().max() > 0}
    assert moved == FLOW[make][term]
    assert all(gradient.isfinite().all() for gradient in found.values() if gradient is not None)


@pytest.mark.parametrize("make", [relu_config, topk_config, row_topk_config, matryoshka_config, per_level_config])
def test_the_error_moves_only_features_that_fired(make):
    sae = stirred(make)
    losses = sae(batch(rows=2), None)
    fired_M = losses.fired_M
    assert fired_M.any() and not fired_M.all()
    found = gradients(sae, losses.mse)
    for per_feature in (found["W_enc"].abs().sum(0), found["b_enc"].abs(), found["W_dec"].abs().sum(1)):
        assert torch.equal(per_feature > 0, fired_M)
    assert (found["b_dec"] != 0).all()


@pytest.mark.parametrize("make", WITH_AUXK)
def test_auxk_moves_encoder_and_decoder_of_dead_features_and_of_no_other(make):
    sae = stirred(make)
    losses = sae(batch(), DEAD_J)
    dead_M = torch.zeros(48, dtype=torch.bool).index_fill(0, DEAD_J, True)
    found = gradients(sae, losses.auxk)
    for per_feature in (found["W_enc"].abs().sum(0), found["b_enc"].abs(), found["W_dec"].abs().sum(1)):
        assert torch.equal(per_feature > 0, dead_M)
    assert (found["b_dec"] != 0).all()


@pytest.mark.parametrize(
    ("make", "dead_J"),
    [(relu_config, DEAD_J), (jumprelu_config, DEAD_J), (sail_config, DEAD_J)]
    + [(make, None) for make in WITH_AUXK]
    + [(topk_config, DEAD_J[:0])],
)
def test_auxk_is_exactly_absent_where_it_has_nothing_to_do(make, dead_J):
    losses = stirred(make)(batch(), dead_J)
    assert losses.auxk == 0 and not losses.auxk.requires_grad


@pytest.mark.parametrize("make", WITH_AUXK)
def test_architectures_with_k_minimise_error_and_auxk_but_not_the_l1_norm(make):
    losses = stirred(make)(batch(), DEAD_J)
    assert losses.auxk > 0
    torch.testing.assert_close(losses.total, losses.mse + 0.2 * 32 * losses.auxk)


@pytest.mark.parametrize("make", ALL)
def test_encode_and_decode_work_on_raw_embeddings(make):
    sae, x_ND = stirred(make), batch()
    z_NM = sae.encode(x_ND)
    assert (z_NM >= 0).all() and (z_NM > 0).any()
    raw_ND = z_NM @ sae.W_dec + sae.b_dec
    raw_ND = raw_ND if make is sail_config else raw_ND / sae.scale + sae.mean
    torch.testing.assert_close(sae.decode(z_NM), raw_ND)
    torch.testing.assert_close(sae.encode(x_ND[3:4]), z_NM[3:4])


@pytest.mark.parametrize("make", [*PENALISED, row_topk_config])
def test_training_and_inference_select_alike_where_rows_do_not_compete(make):
    sae, x_ND = stirred(make), batch()
    h_NM = sae.pre_activations(sae.normalise(x_ND))
    torch.testing.assert_close(sae.select(h_NM), sae.activate(h_NM))


@pytest.mark.parametrize("make", ALL)
def test_an_untrained_sae_follows_its_seed_and_has_unit_decoder_rows_tied_to_the_encoder(make):
    first, again, other = (build(make(seed=s), normalisation()) for s in (1, 1, 2))
    assert torch.equal(first.W_dec, again.W_dec) and not torch.equal(first.W_dec, other.W_dec)
    torch.testing.assert_close(first.W_dec.norm(dim=1), torch.ones(48))
    assert torch.equal(first.W_enc, first.W_dec.T)
    assert not any(p.any() for name, p in first.named_parameters() if name.startswith("b_"))


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
