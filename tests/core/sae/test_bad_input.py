"""Whatever comes in, a clear error or a finite SAE comes out."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.checkpoint import sae_from_bytes, sae_to_bytes
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.errors import ArtifactError, DatasetError, MedsaeError, RecipeError
from tests.core.sae.planted import ALL, CENTRED, normalisation, planted, relu_config, sail_config, topk_config

DATA = planted(rows=120)


def checked(config: SAEConfig, train_ND: Tensor, heldout_ND: Tensor = DATA.heldout_ND) -> None:
    """Train, store, read, use."""
    sae = fit(config, train_ND, heldout_ND)
    stored = sae_from_bytes(*sae_to_bytes(sae, config, {})).sae
    z_NM = stored.encode(heldout_ND)
    assert z_NM.isfinite().all() and stored.decode(z_NM).isfinite().all()


@settings(max_examples=15, deadline=None)
@given(place=st.tuples(st.integers(0, 119), st.integers(0, 31)), bad=st.sampled_from(["nan", "inf", "-inf"]))
@pytest.mark.parametrize("make", ALL)
def test_a_row_that_is_not_finite_is_named(make, place, bad):
    x_ND = DATA.train_ND.clone()
    x_ND[place] = float(bad)
    with pytest.raises(DatasetError, match=rf"1 of 120 training .*first: row {place[0]}\)"):
        fit(make(epochs=1), x_ND, DATA.heldout_ND)


@pytest.mark.parametrize(
    ("make", "init"),
    [(make, init) for make in CENTRED for init in ("random", "scaled", "data")] + [(sail_config, "random")],
)
def test_constant_dimensions_empty_and_repeated_rows_are_harmless(make, init):
    x_ND = DATA.train_ND.clone()
    x_ND[:, 3], x_ND[:, 7] = 0.0, 5.0
    x_ND[10:20] = 0.0
    x_ND[20:60] = x_ND[60]
    checked(make(epochs=3, init=init), x_ND)


@settings(max_examples=12, deadline=None)
@given(lr=st.sampled_from([1e-12, 1.0, 1e6, 1e30]), size=st.sampled_from([1e-18, 1e-6, 1e6, 1e18]))
@pytest.mark.parametrize("make", ALL)
def test_extremes_give_an_error_or_a_finite_sae(make, lr, size):
    refusal = None
    try:
        checked(make(epochs=2, lr=lr), DATA.train_ND * size, DATA.heldout_ND * size)
    except MedsaeError as error:
        refusal = str(error)
    assert refusal is None or "diverged" in refusal or "equal" in refusal


@pytest.mark.parametrize("make", ALL)
def test_a_batch_in_which_nothing_is_active_is_a_batch(make):
    sae = build(make(), normalisation())
    with torch.no_grad():
        (sae.b_gate if sae.b_enc is None else sae.b_enc).fill_(-1e3)
    losses = sae(DATA.train_ND, torch.arange(4))
    losses.total.backward()
    assert losses.total.isfinite()
    assert all(p.grad.isfinite().all() for p in sae.parameters() if p.grad is not None)
    assert (losses.fired_M.sum() == 0) == (make.__name__ != "sail_config")


@pytest.mark.parametrize("make", ALL)
def test_an_empty_shard_has_an_empty_code(make):
    sae = build(make(), normalisation()).eval()
    z_NM = sae.encode(DATA.train_ND[:0])
    assert z_NM.shape == (0, 48) and sae.decode(z_NM).shape == (0, 32)
    assert reconstruction(sae, DATA.train_ND[:0]).count == 0


def test_too_few_rows_say_how_many_are_wanted():
    with pytest.raises(DatasetError, match=r"cannot be normalised|too few"):
        fit(relu_config(), DATA.train_ND[:0], DATA.heldout_ND)
    with pytest.raises(DatasetError, match="one training image only"):
        fit(relu_config(batch_size=1), DATA.train_ND[:1], DATA.heldout_ND)
    with pytest.raises(RecipeError, match="batch_size = 100 is above the 20 training rows"):
        fit(topk_config(), DATA.train_ND[:20], DATA.heldout_ND)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("other", ALL)
def test_a_checkpoint_of_another_architecture_or_shape_is_refused(make, other):
    weights, _ = sae_to_bytes(build(make(), normalisation()), make(), {})
    wide = other(d_in=16)
    _, config = sae_to_bytes(build(wide, normalisation(16)), wide, {})
    with pytest.raises(ArtifactError, match=r"is wanted|missing tensors"):
        sae_from_bytes(weights, config)
