import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.false_discovery import benjamini_hochberg
from medsae_ray.core.analysis.replication import Correlations, Rules, replicate
from medsae_ray.errors import ArtifactError
from tests.support.usual import replication_rules

N = 400
USUAL = replication_rules()


def correlations(*r_FL: list[list[float]], n: int = N) -> Correlations:
    r_DFL = np.array(r_FL)
    return Correlations.of(r_DFL, np.full((len(r_DFL), r_DFL.shape[2]), n), USUAL.level)


def verdict(*r: float, n: int = N, rules: Rules = USUAL) -> bool:
    """Whether one pair that was selected in the first dataset is replicated."""
    first = next(replicate(correlations(*([[value]] for value in r), n=n), rules))
    assert first.selected_FL.all()
    return bool(first.replicated()[0, 0])


def test_a_correlation_that_is_as_strong_elsewhere_is_replicated() -> None:
    assert verdict(0.5, 0.45) and verdict(-0.5, -0.45) and verdict(0.5, 0.9)


def test_one_that_is_gone_or_turned_is_not() -> None:
    assert not verdict(0.5, 0.0) and not verdict(0.5, -0.5) and not verdict(-0.5, 0.5)


def test_a_remnant_that_is_certainly_less_than_half_is_not() -> None:
    remnant = 0.2  # significant: p is about 5e-5, but the interval ends at 0.29
    assert stats.norm.sf(np.arctanh(remnant) * np.sqrt(N - 3)) < 1e-4
    assert not verdict(0.8, remnant)
    assert verdict(0.8, remnant, rules=USUAL._replace(keep=0.3))


def test_few_patients_cannot_replicate_what_they_cannot_show() -> None:
    assert not next(replicate(correlations([[0.8]], [[0.3]], n=20), USUAL)).replicated().any()


def test_a_pair_must_hold_in_every_other_dataset_that_can_tell() -> None:
    assert not verdict(0.5, 0.5, 0.0) and verdict(0.5, 0.5, 0.5)
    assert verdict(0.5, 0.5, np.nan)  # the third has no such label


def test_a_label_that_no_other_dataset_has_is_untested() -> None:
    first = next(replicate(correlations([[0.5], [0.1]], [[np.nan], [np.nan]]), USUAL))
    assert first.untested().tolist() == [[True], [True]] and not first.replicated().any()


def test_a_feature_that_is_silent_elsewhere_is_not_replicated() -> None:
    first = next(replicate(correlations([[0.5], [0.5]], [[np.nan], [0.5]]), USUAL))
    assert first.replicated().tolist() == [[False], [True]] and not first.untested().any()


def test_every_dataset_is_the_source_once() -> None:
    a, b = replicate(correlations([[0.5, 0.0]], [[0.5, 0.4]]), USUAL)
    assert a.selected_FL.tolist() == [[True, False]] and b.selected_FL.tolist() == [[True, True]]
    assert b.replicated().tolist() == [[True, False]]


def test_q_values_are_scipys_over_the_defined_ones() -> None:
    p = np.array([[0.01, np.nan], [0.04, 0.2]])
    expected = stats.false_discovery_control([0.01, 0.04, 0.2])
    np.testing.assert_allclose(benjamini_hochberg(p), [[expected[0], np.nan], expected[1:]])


def test_pure_noise_replicates_hardly_ever() -> None:
    rng = np.random.default_rng(0)
    r_DFL = np.tanh(rng.normal(0, 1 / np.sqrt(N - 3), (2, 500, 14)))
    for result in replicate(Correlations.of(r_DFL, np.full((2, 14), N), USUAL.level), USUAL._replace(min_r=0.0)):
        assert result.replicated().sum() <= 1


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), shards=st.integers(1, 4))
def test_correlations_of_merged_shards_give_the_same_verdicts(seed: int, shards: int) -> None:
    rng = np.random.default_rng(seed)
    y_NL = (rng.random((2, 120, 2)) < 0.4).astype(float)
    x_NF = rng.normal(size=(2, 120, 3)) + y_NL[:, :, :1]

    def verdicts(pieces: int) -> list[np.ndarray]:
        r = []
        for x, y in zip(x_NF, y_NL, strict=True):
            total = Comoments.zero(3, 2)
            for rows in np.array_split(np.arange(120), pieces):
                total = Comoments.of(x[rows], y[rows]).merge(total)
            r.append(total.pearson())
        return [
            result.replicated()
            for result in replicate(Correlations.of(np.array(r), np.full((2, 2), 120), USUAL.level), USUAL)
        ]

    np.testing.assert_array_equal(verdicts(shards), verdicts(1))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 999))
def test_order_of_features_and_turning_all_signs_change_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    r_DFL, n_DL = rng.uniform(-0.9, 0.9, (3, 5, 2)), rng.integers(10, 400, (3, 2))
    order = rng.permutation(5)
    plain, turned, moved = (
        [result.replicated() for result in replicate(Correlations.of(r, n_DL, USUAL.level), USUAL)]
        for r in (r_DFL, -r_DFL, r_DFL[:, order])
    )
    np.testing.assert_array_equal(plain, turned)
    np.testing.assert_array_equal(np.array(plain)[:, order], moved)


def test_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(ArtifactError, match=r"are not \[D, F, L\] and \[D, L\]"):
        Correlations.of(np.zeros((2, 3, 4)), np.zeros((2, 3), np.int64), USUAL.level)
