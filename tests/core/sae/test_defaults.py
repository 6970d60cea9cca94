import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.sae.defaults import BATCHES, Spread, check_fits, choose, open_settings, spread
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.metrics import reconstruction
from medsae_ray.core.sae.rules import CHOSEN
from medsae_ray.errors import DatasetError, RecipeError
from tests.core.sae.planted import planted
from tests.support.usual import sae_config

NOTHING = {"architecture": "batch_topk", "width": None, "k": None, "epochs": None, "batch_size": None, "lr": None}
GIVEN = {
    "width": st.integers(2, 10_000),
    "k": st.integers(1, 64),
    "epochs": st.integers(1, 500),
    "batch_size": st.integers(1, 10_000),
    "lr": st.floats(1e-5, 0.5),
}
SPREADS = st.builds(Spread, st.floats(1, 4096), st.booleans())


@settings(max_examples=300, deadline=None)
@given(
    rows=st.integers(1, 3_000_000),
    dims=SPREADS,
    given=st.fixed_dictionaries({}, optional=GIVEN),
)
def test_whatever_is_given_the_rest_is_chosen_to_go_with_it(rows, dims, given):
    if given.get("k", 0) > given.get("width", 1 << 30):
        del given["k"]
    asked = NOTHING | given
    found = choose(asked, rows, dims)
    config = sae_config(**found, d_in=64)  # refuses what does not go together
    assert all(found[name] == value for name, value in given.items())
    assert choose(found, rows, dims) == found and not open_settings(found)
    assert set(open_settings(asked)) == CHOSEN - set(given)
    if "batch_size" not in given:
        check_fits(rows, vars(config))
        check_fits(rows, asked)


def test_directions_are_those_in_which_rows_vary():
    rng = np.random.default_rng(0)
    five = rng.normal(size=(20_000, 5))
    turned = np.linalg.qr(rng.normal(size=(40, 40)))[0][:5]
    assert spread(five @ turned + 7).directions == pytest.approx(5, rel=0.01)
    assert spread(five[:30] @ turned).directions == pytest.approx(spread(five[:30]).directions)
    assert spread(np.ones((6, 4))) == spread(np.full((3, 2), np.nan)) == spread(rng.normal(size=(1, 9))) == Spread(1)


def test_a_long_tail_asks_for_more_rows_a_feature():
    """Few rows of an encoder of photographs: 32 features do better than 128 on new patients."""
    rng = np.random.default_rng(0)
    tailed = rng.normal(size=(800, 400)) * np.arange(1, 401) ** -0.6
    assert spread(tailed).long_tail and not spread(rng.normal(size=(800, 30))).long_tail
    found = spread(tailed)
    assert choose(NOTHING, 400, found)["width"] < choose(NOTHING, 400, found._replace(long_tail=False))["width"]


@given(
    more=st.integers(1, 1000), rows=st.integers(1, 1_000_000), dims=st.builds(Spread, st.floats(1, 4096), st.booleans())
)
def test_more_rows_never_choose_a_smaller_dictionary_or_batch(more, rows, dims):
    small, large = choose(NOTHING, rows, dims), choose(NOTHING, rows + more, dims)
    assert all(small[name] <= large[name] for name in ("width", "k"))
    if rows >= BATCHES[0]:
        assert small["batch_size"] <= large["batch_size"]


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("rows", [24, 40, 300, 4_000, 250_000])
def test_a_chosen_batch_can_be_shared(rows, workers):
    check_fits(rows, choose(NOTHING, rows, Spread(512)), workers)


@pytest.mark.parametrize("settings", [NOTHING | {"batch_size": 4096}, NOTHING | {"batch_size": 384}])
def test_a_batch_above_the_rows_is_refused_with_one_that_fits(settings):
    with pytest.raises(RecipeError, match=rf"batch_size = {settings['batch_size']} is above the 383 .* give 48, or"):
        check_fits(383, settings)


def test_a_batch_that_workers_cannot_share_is_refused():
    with pytest.raises(RecipeError, match="batch_size = 100 cannot be split over 3 workers; use 99"):
        check_fits(383, NOTHING | {"batch_size": 100}, 3)


def test_without_rows_nothing_is_chosen():
    with pytest.raises(DatasetError, match="no training row"):
        choose(NOTHING, 0, Spread(8))


@pytest.mark.parametrize("rows", [8, 24, 400])
def test_the_smallest_tables_get_an_sae_that_keeps_its_k_and_lives(rows):
    data = planted(rows=rows)
    config = sae_config(**choose(NOTHING, rows, spread(data.train_ND.numpy())), d_in=32)
    sae = fit(config, data.train_ND, data.heldout_ND)
    found = reconstruction(sae, data.train_ND)
    assert found.l0 == pytest.approx(config.k, rel=0.05)
    assert found.dead_share < 0.5 and found.fvu < 0.7


def test_levels_and_their_ks_are_left_alone():
    asked = NOTHING | {"architecture": "matryoshka", "levels": [8, 64], "width": 64, "ks": [2, 4]}
    found = choose(asked, 5000, Spread(128))
    assert found["k"] is None and found["ks"] == [2, 4] and "k" not in open_settings(asked)
