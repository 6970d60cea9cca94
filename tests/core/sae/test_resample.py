"""Features that fire on no row start again."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from medsae_ray.core.sae import training
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.fit import EpochLog, fit
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.resample import resample
from tests.core.sae.planted import WITH_AUXK, planted, row_topk_config, sail_config, topk_config

DATA = planted(rows=1000)
DEAD_J = torch.tensor([0, 5, 40])


def silenced(make, **other):
    """An SAE with an optimiser that has seen a step, and three features that never fire."""
    config = make(init="random", **other)
    sae = build(config, Normalisation.fit(DATA.train_ND))
    optimiser = torch.optim.Adam(sae.parameters())
    sae.train()(DATA.train_ND).total.backward()
    optimiser.step()
    with torch.no_grad():
        sae.b_enc[DEAD_J] = -100.0
        sae.finish_step()
    return sae, optimiser


@torch.no_grad()
def activations(sae):
    return sae.eval().encode(DATA.train_ND)


@pytest.mark.parametrize("make", WITH_AUXK)
def test_silent_features_start_near_what_is_left_of_rows_and_fire_on_a_hundredth(make):
    sae, optimiser = silenced(make)
    before_NM = activations(sae)
    assert not before_NM[:, DEAD_J].any()
    residual_ND = F.normalize(sae.normalise(DATA.train_ND) - sae.reconstruct(before_NM).detach(), dim=1)
    kept = {name: parameter.detach().clone() for name, parameter in sae.named_parameters()}
    resample(sae, optimiser, DEAD_J, DATA.train_ND, seed=3)
    torch.testing.assert_close((sae.W_dec[DEAD_J] @ residual_ND.T).amax(1), torch.ones(3))
    torch.testing.assert_close(F.normalize(sae.W_enc[:, DEAD_J], dim=0), sae.W_dec[DEAD_J].T)
    # 10 rows lift it over the edge that was there before; the three then compete with each other.
    fired_J = (activations(sae)[:, DEAD_J] > 0).sum(0)
    assert ((fired_J >= 7) & (fired_J <= 10)).all(), fired_J
    others = [feature for feature in range(48) if feature not in DEAD_J]
    assert torch.equal(sae.W_dec[others], kept["W_dec"][others])
    assert torch.equal(sae.W_enc[:, others], kept["W_enc"][:, others])
    assert torch.equal(sae.b_enc[others], kept["b_enc"][others])


def test_adam_forgets_what_it_knew_of_them_and_nothing_else():
    sae, optimiser = silenced(topk_config)
    before = {p: {k: v.clone() for k, v in state.items()} for p, state in optimiser.state.items()}
    resample(sae, optimiser, DEAD_J, DATA.train_ND, seed=3)
    for parameter, axis in ((sae.W_dec, 0), (sae.W_enc, 1), (sae.b_enc, 0)):
        for moment in ("exp_avg", "exp_avg_sq"):
            found, was = optimiser.state[parameter][moment], before[parameter][moment]
            assert not found.index_select(axis, DEAD_J).any()
            others = torch.tensor([feature for feature in range(48) if feature not in DEAD_J])
            assert torch.equal(found.index_select(axis, others), was.index_select(axis, others))
    assert torch.equal(optimiser.state[sae.b_dec]["exp_avg"], before[sae.b_dec]["exp_avg"])


def test_more_silent_features_than_rows_can_start_again_and_none_are_left_as_they_were():
    sae, optimiser = silenced(topk_config)
    resample(sae, optimiser, torch.arange(48), DATA.train_ND[:20], seed=0)
    assert all(bool(parameter.isfinite().all()) for parameter in sae.parameters())
    assert (activations(sae) > 0).any(0).all()


def test_rows_that_are_explained_to_the_last_bit_make_no_nan():
    sae, optimiser = silenced(topk_config)
    rows_ND = sae.mean.float().expand(50, 32).contiguous()
    with torch.no_grad():
        sae.b_dec.zero_()
        sae.b_enc.fill_(-1.0)
    resample(sae, optimiser, DEAD_J, rows_ND, seed=0)
    assert all(bool(parameter.isfinite().all()) for parameter in sae.parameters())


def test_training_ends_with_fewer_dead_features_and_no_larger_error():
    """A dictionary that is too wide leaves features dead that start near rows, and AuxK does not bring them back."""

    def end(resample: bool) -> EpochLog:
        logs: list[EpochLog] = []
        config = row_topk_config(width=192, k=2, epochs=30, batch_size=50, lr=3e-3, init="data", resample=resample)
        fit(config, DATA.train_ND, DATA.heldout_ND, on_epoch=lambda log, state: logs.append(log))
        return logs[-1]

    with_it, without = end(True), end(False)
    assert with_it.dead_share < 0.02 < 0.06 < without.dead_share
    assert with_it.fvu < without.fvu


@pytest.mark.parametrize(
    ("config", "after"),
    [
        (row_topk_config(width=192, k=2, epochs=3, batch_size=50), {1, 2}),
        (row_topk_config(width=192, k=2, epochs=3, batch_size=50, resample=False), set()),
        (topk_config(width=192, k=2, epochs=3, batch_size=50), set()),
        (topk_config(width=192, k=2, epochs=3, batch_size=50, resample=True), {1, 2}),
        (sail_config(width=192, levels=[16, 32, 192], epochs=3, batch_size=50, resample=True), set()),
    ],
)
def test_features_start_again_where_that_is_wanted_and_not_after_the_last_epoch(monkeypatch, config, after):
    epochs = []
    monkeypatch.setattr(training, "resample", lambda *args: epochs.append(args[-1]))
    fit(replace(config, init="random"), DATA.train_ND, DATA.heldout_ND)
    assert set(epochs) == after  # the seed 0 leaves the epoch's number
