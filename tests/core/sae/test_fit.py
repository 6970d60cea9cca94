from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from medsae_ray.core.sae import training
from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.fit import EpochLog, State, fit
from medsae_ray.core.sae.init import start
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.training import learning_rate, row_order
from medsae_ray.errors import ArtifactError, DatasetError, DivergedError, RecipeError
from tests.core.sae import two_ranks
from tests.core.sae.planted import (
    ALL,
    CENTRED,
    PENALISED,
    WITH_AUXK,
    gated_config,
    jumprelu_config,
    matryoshka_config,
    per_level_config,
    planted,
    relu_config,
    row_topk_config,
    sail_config,
    topk_config,
)

DATA = planted()
SMALL = planted(rows=230, dim=32)
TOPK_AUX = topk_config(width=96, k=2, epochs=5, dead_after_epochs=1, batch_size=46, lr=5e-3)


def train(config, data=SMALL, **other):
    """(sae, logs, states) of a run."""
    logs: list[EpochLog] = []
    states: list[State] = []
    sae = fit(
        config,
        data.train_ND,
        data.heldout_ND,
        on_epoch=lambda log, state: (logs.append(log), states.append(state())),
        **other,
    )
    return sae, logs, states


LEARNT = [
    relu_config(l1=1.0, lr=3e-3, epochs=40),
    # Near the data these two find fewer of these atoms, and more of others: see benchmarks/.
    gated_config(l1=1.0, lr=3e-3, epochs=40, init="scaled"),
    jumprelu_config(l0=0.5, lr=3e-3, epochs=40, init="scaled"),
    jumprelu_config(l0=4.0, target_l0=3.0, lr=3e-3, epochs=40, init="scaled"),
    topk_config(lr=3e-3, epochs=40),
    topk_config(lr=3e-3, epochs=40, init="scaled"),
    topk_config(lr=3e-3, epochs=40, init="data"),
    topk_config(lr=3e-3, epochs=40, normalisation="none", init="data"),
    row_topk_config(k=5, lr=3e-3, epochs=40),
    matryoshka_config(lr=3e-3, epochs=40, k=4, levels=[40, 48]),
    per_level_config(lr=3e-3, epochs=40, levels=[40, 48], ks=[3, 4]),
]


def name(config: object) -> str:
    return f"{config.architecture}-{config.selection}-{config.normalisation}-{config.init}-{config.target_l0}"


@pytest.mark.parametrize("config", LEARNT, ids=name)
def test_planted_atoms_are_recovered(config):
    sae, logs, _ = train(config, DATA)
    best_A = (F.normalize(DATA.atoms_AD, dim=1) @ sae.W_dec.T).max(1).values
    assert (best_A > 0.9).float().mean() > 0.9
    assert logs[-1].fvu < 0.15 and logs[-1].fvu < logs[0].fvu
    assert logs[-1].dead_share < 0.4  # 16 of 48 features have no atom to stand for


def test_sails_code_learns_too():
    _, logs, _ = train(sail_config(lr=3e-3, epochs=30, ks=[4, 8, 12]), DATA)
    assert logs[-1].fvu < 0.6 and logs[-1].fvu < 0.7 * logs[0].fvu


def test_jumprelu_reaches_its_target():
    _, logs, _ = train(jumprelu_config(l0=4.0, target_l0=6.0, lr=3e-3, epochs=40), DATA)
    assert logs[-1].l0 == pytest.approx(6.0, rel=0.2)


def test_inference_keeps_about_k_features_per_image():
    sae, _, _ = train(topk_config(lr=3e-3, epochs=20), DATA)
    assert reconstruction(sae, DATA.train_ND).l0 == pytest.approx(3, rel=0.15)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    first, again, other = (train(topk_config(epochs=2, seed=seed))[0] for seed in (1, 1, 2))
    assert torch.equal(first.W_enc, again.W_enc)
    assert not torch.equal(first.W_enc, other.W_enc)


RESUMED = [make(epochs=5, batch_size=20, lr=5e-3) for make in ALL]
RESUMED += [TOPK_AUX, topk_config(epochs=6, patience=2, lr=0.1), relu_config(epochs=4, precision="bfloat16")]


@pytest.mark.parametrize("config", RESUMED, ids=name)
def test_a_resumed_run_equals_an_undisturbed_one_bit_for_bit(config, tmp_path):
    sae, logs, states = train(config)
    torch.save(states[2], tmp_path / "state.pt")
    resumed, later, _ = train(config, resume=torch.load(tmp_path / "state.pt", weights_only=True))
    for name, tensor in sae.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    assert [log[:-1] for log in later] == [log[:-1] for log in logs[3:]]


def test_a_state_of_other_settings_or_rows_is_refused():
    _, _, states = train(relu_config(epochs=1))
    with pytest.raises(ArtifactError, match=r"lr = 0.001, not 0.5"):
        train(relu_config(epochs=1, lr=0.5), resume=states[0])
    with pytest.raises(ArtifactError, match="other training rows"):
        train(relu_config(epochs=1), planted(rows=230, seed=9), resume=states[0])


def two_ranks_configs() -> list:
    one = [make(epochs=2, batch_size=46) for make in ALL]
    aux = [make(k=2, width=96, lr=5e-3) for make in (row_topk_config, topk_config)]
    aux += [matryoshka_config(width=96, levels=[40, 96], k=2, lr=5e-3)]
    # Random directions leave features dead here; a start near the data does not.
    aux = [replace(config, init="random", epochs=5, dead_after_epochs=1, batch_size=46) for config in aux]
    return [*one, jumprelu_config(l0=4.0, target_l0=3.0, epochs=2, batch_size=46), *aux]


def test_two_ranks_train_the_sae_that_one_rank_trains(tmp_path):
    """Within 1e-4: the order of sums differs, and an entry at the edge of a selection may change sides."""
    configs = two_ranks_configs()
    for split, x_ND in (("train", SMALL.train_ND), ("heldout", SMALL.heldout_ND)):
        np.save(tmp_path / f"{split}.npy", x_ND)
    torch.multiprocessing.spawn(two_ranks.train, (tmp_path, configs), nprocs=2)
    ranks = [torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1)]
    revived = 0
    for config, (weights, logs), (twin, twin_logs) in zip(configs, *ranks, strict=True):
        alone, alone_logs, _ = train(config)
        if config.architecture in ("batch_topk", "matryoshka") and not config.compat:
            alone.threshold.copy_(weights["threshold"])
            k = config.k or config.ks[-1]
            assert reconstruction(alone, SMALL.train_ND).l0 == pytest.approx(k, rel=0.02)
        for key, tensor in alone.state_dict().items():
            torch.testing.assert_close(weights[key], tensor, rtol=1e-4, atol=1e-4, msg=lambda m, c=config: f"{c}: {m}")
            assert torch.equal(weights[key], twin[key]), key
        for log, twin_log, wanted in zip(logs, twin_logs, alone_logs, strict=True):
            assert log[:-1] == pytest.approx(wanted[:-1], rel=1e-3)
            assert log[:-1] == twin_log[:-1]
        revived += config.architecture != "gated" and any(log.auxk > 0 for log in alone_logs)
    assert revived == 3  # AuxK was in use too


def test_auxk_brings_features_back_that_selection_never_reaches():
    def end(coefficient: float) -> EpochLog:
        config = topk_config(
            epochs=25, batch_size=20, lr=3e-3, dead_after_epochs=1, auxk_coefficient=coefficient, resample=False
        )
        state = train(config)[2][0]
        state["model"]["W_enc"][:, :24] *= 0.1  # still positive here and there, but never among the largest
        return train(config, resume=state)[1][-1]

    with_auxk, without = end(1 / 32), end(0.0)
    assert without.dead_share == 0.5
    assert with_auxk.dead_share < 0.35
    assert with_auxk.fvu < without.fvu - 0.05


def test_decoder_rows_leave_training_with_unit_norm_and_the_sae_in_eval_mode():
    sae, _, _ = train(relu_config(epochs=1))
    torch.testing.assert_close(sae.W_dec.norm(dim=1), torch.ones(48))
    assert not sae.training


def test_the_log_counts_epochs_from_one_and_agrees_with_the_final_sae():
    sae, logs, _ = train(topk_config(epochs=3))
    final = reconstruction(sae, SMALL.heldout_ND)
    assert [log.epoch for log in logs] == [1, 2, 3]
    for name in ("fvu", "r2", "r2_scalar", "cosine", "l0"):
        assert getattr(logs[-1], name) == pytest.approx(getattr(final, name))


def test_divergence_is_refused_before_anyone_sees_the_state():
    seen = []
    with pytest.raises(DivergedError, match=r"diverged in epoch 1 .* lower lr"):
        fit(relu_config(lr=1e38, l1=1e30), SMALL.train_ND, SMALL.heldout_ND, on_epoch=lambda log, _: seen.append(log))
    assert not seen


def test_a_normalisation_that_is_known_already_changes_nothing():
    config = relu_config(whiten=0.1, epochs=2)
    known = Normalisation.fit(SMALL.train_ND, config.whiten, config.normalisation)
    one, other = train(config)[0], train(config, normalisation=known)[0]
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_embeddings_that_are_not_finite_are_refused():
    bad_ND = SMALL.heldout_ND.clone()
    bad_ND[2, 2] = torch.nan
    with pytest.raises(DatasetError, match="1 of 300 held-out"):
        fit(relu_config(), SMALL.train_ND, bad_ND)
    with pytest.raises(DatasetError, match="1 of 300 training"):
        fit(relu_config(), bad_ND, SMALL.heldout_ND)


def test_settings_that_do_not_fit_the_rows_are_refused():
    with pytest.raises(RecipeError, match="batch_size = 231 is above the 230"):
        train(relu_config(batch_size=231))
    with pytest.raises(DatasetError, match="d_in = 16 wanted"):
        train(relu_config(d_in=16))
    with pytest.raises(DatasetError, match="too few"):
        fit(relu_config(), SMALL.train_ND, SMALL.heldout_ND[:0])
    with pytest.raises(RecipeError, match="not initialised"):
        train(relu_config(), rank=0, world=2)


def test_the_learning_rate_rises_stays_and_falls():
    config = relu_config(lr=1.0, warmup_fraction=0.1, decay_fraction=0.2)
    rates = [learning_rate(config, step, 100) for step in range(100)]
    assert rates[:2] == pytest.approx([0.1, 0.2])
    assert set(rates[10:80]) == {1.0}
    assert rates[-2:] == pytest.approx([0.1, 0.05])


def test_every_epoch_has_its_own_order_of_all_rows():
    config = relu_config(seed=4)
    first, second = row_order(config, 0, 50), row_order(config, 1, 50)
    assert torch.equal(first, row_order(config, 0, 50)) and not torch.equal(first, second)
    assert second.sort().values.tolist() == list(range(50))


@pytest.mark.parametrize("make", ALL)
def test_a_state_does_not_change_as_training_goes_on(make):
    states = train(make(epochs=2))[2]
    assert not torch.equal(states[0]["model"]["W_enc"], states[1]["model"]["W_enc"])
    moments = [state["optimiser"]["state"][0]["exp_avg"] for state in states]
    assert not torch.equal(*moments)


@pytest.mark.parametrize("make", WITH_AUXK)
def test_patience_stops_early_and_keeps_the_best_epoch(make):
    sae, logs, _ = train(make(epochs=60, patience=3, lr=0.3, batch_size=50))
    best = min(logs, key=lambda log: log.fvu)
    assert len(logs) == best.epoch + 3 < 60
    assert reconstruction(sae, SMALL.heldout_ND).fvu == pytest.approx(best.fvu)


def test_a_start_from_data_is_near_rows_and_follows_its_seed():
    data_ND = SMALL.train_ND
    first, again = (fit_nothing(topk_config(init="data", width=300, seed=5)) for _ in range(2))
    other = fit_nothing(topk_config(init="data", width=300, seed=6))
    assert torch.equal(first.W_dec, again.W_dec) and not torch.equal(first.W_dec, other.W_dec)
    rows_ND = F.normalize(first.normalise(data_ND), dim=1)
    near_M = (first.W_dec @ rows_ND.T).max(1).values
    random_M = (fit_nothing(topk_config(width=300, init="random")).W_dec @ rows_ND.T).max(1).values
    assert near_M.min() > 0.8 > random_M.median()
    assert torch.pdist(first.W_dec).min() > 0.05  # rows are used twice here, and their features differ


@pytest.mark.parametrize("make", CENTRED)
def test_a_scaled_start_has_the_length_at_which_the_first_reconstruction_is_best(make):
    wide = {"levels": [256, 512, 1024]} if "matryoshka" in make().architecture else {}
    dense = {"start_l0": None} if make in PENALISED else {}
    configs = {init: make(width=1024, init=init, **wide, **dense) for init in ("random", "scaled")}
    saes = {init: build(config, Normalisation.fit(DATA.train_ND)) for init, config in configs.items()}
    for init, sae in saes.items():
        start(sae, DATA.train_ND, configs[init])
    ratio_DM = saes["scaled"].W_enc / saes["random"].W_enc
    torch.testing.assert_close(ratio_DM, ratio_DM[0, 0].expand_as(ratio_DM))
    assert 0 < ratio_DM[0, 0] < 1
    errors = [saes[init].train()(DATA.train_ND).mse.item() for init in ("random", "scaled")]
    assert errors[1] < min(errors[0], 32)  # 32 is what saying nothing costs
    for factor in (0.8, 1 / 0.8 / 0.8) if not wide else ():  # prefixes would each have a length of their own
        saes["scaled"].stretch(factor)
        assert saes["scaled"](DATA.train_ND).mse.item() > errors[1]


@pytest.mark.parametrize("active", [30, 450])
@pytest.mark.parametrize("init", ["random", "scaled", "data"])
@pytest.mark.parametrize("make", PENALISED)
def test_at_first_as_many_features_are_active_as_asked_for_and_all_equally_often(make, init, active):
    narrow = {"bandwidth": 1e-6} if make is jumprelu_config else {}
    config = make(init=init, start_l0=active, width=1500, **narrow)
    sae = build(config, Normalisation.fit(DATA.train_ND))
    start(sae, DATA.train_ND, config)
    active_M = (sae.encode(DATA.train_ND) > 0).sum(0)
    # There are as many rows as features.
    assert (active_M.float() - active).abs().max() <= 2  # the length is fitted after, and rounds
    assert sae.b_dec.abs().max() == 0


def fit_nothing(config):
    """An SAE after one step that moves it next to nowhere."""
    return train(replace(config, epochs=1, batch_size=230, lr=1e-9))[0]


@pytest.mark.parametrize("make", CENTRED)
def test_products_in_bfloat16_train_nearly_as_well(make):
    exact, rounded = (train(make(epochs=10, lr=3e-3, precision=kind))[1][-1] for kind in ("float32", "bfloat16"))
    assert rounded.fvu == pytest.approx(exact.fvu, rel=0.1)
    assert rounded.fvu != exact.fvu


def test_precision_auto_follows_what_was_measured(monkeypatch):
    for pays, wanted in ((True, torch.bfloat16), (False, None)):
        monkeypatch.setattr(training, "bfloat16_pays", lambda *_, pays=pays: pays)
        assert fit_nothing(topk_config(precision="auto")).low == wanted
