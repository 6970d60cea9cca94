import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.errors import RecipeError
from tests.core.sae.planted import (
    ALL,
    gated_config,
    jumprelu_config,
    matryoshka_config,
    per_level_config,
    relu_config,
    sail_config,
    topk_config,
)


@pytest.mark.parametrize("make", ALL)
def test_a_config_survives_the_way_to_plain_values_and_back(make):
    config = make(seed=7, lr=1e-4)
    assert SAEConfig.from_dict(config.to_dict()) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"k": 49}, "k = 49 is above width = 48"),
        ({"k": 0}, "k = 0 is out of range"),
        ({"k": 2.0}, "k = 2.0 is not a whole number"),
        ({"k": None}, "needs k"),
        ({"l1": 1.0}, "l1 has no effect"),
        ({"width": 0}, "width = 0 is out of range"),
        ({"d_in": True}, "d_in = True is not a whole number"),
        ({"lr": 0.0}, "lr = 0.0 is out of range"),
        ({"lr": float("nan")}, "lr = nan is out of range"),
        ({"lr": None}, "lr = None is not a number"),
        ({"warmup_fraction": 0.8, "decay_fraction": 0.3}, "add to more than 1"),
        ({"dead_after_epochs": 0}, "dead_after_epochs = 0"),
        ({"auxk_coefficient": -1.0}, "auxk_coefficient = -1.0"),
        ({"seed": -1}, "seed = -1"),
        ({"batchsize": 3}, "did you mean 'batch_size'"),
        ({"architecture": "top_k"}, "known: relu_l1, topk, batch_topk"),
        ({"bandwidth": 0.1}, "bandwidth has no effect"),
        ({"levels": [24, 48]}, "levels has no effect"),
        ({"compat": "sail"}, "compat has no effect"),
        ({"selection": "per_level"}, "selection has no effect"),
        ({"normalisation": "l3"}, "normalisation 'l3' is unknown; known: centre, none, l2"),
        ({"normalisation": "l2", "whiten": 0.1}, "whiten needs normalisation 'centre'"),
        ({"init": "zeros"}, "known: random, scaled, data"),
        ({"precision": "float16"}, "known: float32, bfloat16, auto"),
        ({"patience": 0}, "patience = 0 is out of range"),
        ({"start_l0": 9.0}, "start_l0 has no effect"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_by_name(values, message):
    with pytest.raises(RecipeError, match=message):
        topk_config(**values)


def test_relu_needs_its_l1_and_takes_no_k():
    with pytest.raises(RecipeError, match="needs l1"):
        relu_config(l1=None)
    with pytest.raises(RecipeError, match="k has no effect"):
        relu_config(k=3)
    with pytest.raises(RecipeError, match="start_l0 = 0 is out of range"):
        relu_config(start_l0=0)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"levels": None}, "needs levels"),
        ({"levels": []}, "levels = .* are not ascending"),
        ({"levels": [32, 16, 48]}, "not ascending"),
        ({"levels": [16, 16, 48]}, "not ascending"),
        ({"levels": [16.0, 48]}, "not ascending whole numbers"),
        ({"levels": [16, 32]}, r"the last of levels = \[16, 32\] is not width = 48"),
        ({"ks": [1, 2, 3]}, "'shared' needs k and takes no ks"),
        ({"k": None}, "'shared' needs k"),
        ({"selection": "per_level"}, "'per_level' needs ks and takes no k"),
        ({"selection": "per_level", "k": None, "ks": [1, 2]}, "2 ks for 3 levels"),
        ({"selection": "per_level", "k": None, "ks": [17, 2, 3]}, "k = 17 of the level of 16 features"),
        ({"compat": "sail"}, "needs selection 'per_level' and normalisation 'l2'"),
    ],
)
def test_levels_that_do_not_nest_are_refused(values, message):
    with pytest.raises(RecipeError, match=message):
        matryoshka_config(**values)


def test_sail_keeps_its_normalisation_and_jumprelu_a_target_that_can_be_reached():
    with pytest.raises(RecipeError, match="normalisation 'l2', as SAIL has them"):
        sail_config(normalisation="centre")
    with pytest.raises(RecipeError, match="starts from random directions, not init 'scaled'"):
        sail_config(init="scaled")
    with pytest.raises(RecipeError, match=r"target_l0 = 49\.0 is above width = 48"):
        jumprelu_config(target_l0=49.0)
    with pytest.raises(RecipeError, match=r"patience has no effect .* sparsity changes as it trains"):
        jumprelu_config(patience=3)


def test_training_starts_near_data_unless_sails_code_is_followed():
    assert topk_config().init == "data" and sail_config().init == "random"
    assert jumprelu_config().init == gated_config().init == "data"
    assert relu_config(start_l0=None) != relu_config()


def test_lists_and_tuples_of_levels_are_the_same_setting():
    assert per_level_config(levels=[16, 32, 48]) == per_level_config(levels=(16, 32, 48))


def test_a_config_without_a_width_says_so():
    with pytest.raises(RecipeError, match=r"width, .* not given"):
        SAEConfig.from_dict({"architecture": "relu_l1", "d_in": 4, "l1": 1.0})


@given(k=st.integers(-5, 60), width=st.integers(-5, 60))
def test_k_is_accepted_exactly_from_one_to_width(k, width):
    if 1 <= k <= width:
        assert topk_config(k=k, width=width).k == k
    else:
        with pytest.raises(RecipeError):
            topk_config(k=k, width=width)
