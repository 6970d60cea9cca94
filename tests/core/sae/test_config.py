import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.errors import RecipeError
from tests.core.sae.planted import BOTH, relu_config, topk_config


@pytest.mark.parametrize("make", BOTH)
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
        ({"architecture": "topk"}, "known: relu_l1, batch_topk"),
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


def test_a_config_without_a_width_says_so():
    with pytest.raises(RecipeError, match="width not given"):
        SAEConfig.from_dict({"architecture": "relu_l1", "d_in": 4, "l1": 1.0})


@given(k=st.integers(-5, 60), width=st.integers(-5, 60))
def test_k_is_accepted_exactly_from_one_to_width(k, width):
    if 1 <= k <= width:
        assert topk_config(k=k, width=width).k == k
    else:
        with pytest.raises(RecipeError):
            topk_config(k=k, width=width)
