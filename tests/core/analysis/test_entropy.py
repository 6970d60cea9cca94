import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.entropy import (
    EntropyNull,
    label_entropy,
    mean_entropy,
    null_comoments,
    null_draws,
    one_dataset,
    shuffles,
    summarise_null,
)
from medsae_ray.errors import ArtifactError


def permuted(y_NL: np.ndarray, seed: int, n: int) -> Iterator[np.ndarray]:
    """`y_NL`, the labels of one dataset, with its rows shuffled, `n` times."""
    return (y_NL[rows_N] for rows_N in shuffles(one_dataset(len(y_NL)), seed, n))


def entropy_null(x_NF: np.ndarray, y_NL: np.ndarray, *, permutations: int, seed: int) -> EntropyNull:
    """The null of one shard that holds all rows, one shuffle at a time."""
    draws = [null_draws(Comoments.of(x_NF, y), y_NL.shape[1]) for y in permuted(y_NL, seed, permutations)]
    return summarise_null(np.concatenate(draws))


def unrelated(seed: int, n: int = 60, units: int = 20, labels: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x_NF = rng.gamma(1.0, size=(n, units)) * (rng.random((n, units)) < 0.4)
    y_NL = (rng.random((n, labels)) < 0.4).astype(float)
    y_NL[rng.random((n, labels)) < 0.2] = np.nan
    x_NF[:, 0] = 0  # a dead unit
    return x_NF, y_NL


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), base=st.sampled_from([math.e, 2.0, 10.0]))
def test_entropy_agrees_with_scipy(seed: int, base: float) -> None:
    rng = np.random.default_rng(seed)
    r_FL = rng.uniform(-1, 1, (6, 7))
    r_FL[rng.random((6, 7)) < 0.3] = np.nan
    r_FL[rng.random((6, 7)) < 0.1] = 0.0
    got = label_entropy(r_FL, base)
    for r, h, normalised in zip(r_FL, *got, strict=True):
        a = np.abs(r[~np.isnan(r)])
        if not a.sum():
            assert np.isnan(h)
            continue
        assert h == pytest.approx(stats.entropy(a, base=base), abs=1e-10)
        if len(a) > 1:
            assert normalised == pytest.approx(stats.entropy(a) / np.log(len(a)), abs=1e-10)
        else:
            assert np.isnan(normalised)


def test_entropies_by_hand() -> None:
    nan = np.nan
    got = label_entropy(np.array([[0.5, -0.5, nan], [0.3, 0.0, 0.0], [0.1, -0.1, 0.1], [nan] * 3, [0.0] * 3]))
    np.testing.assert_allclose(got.h_F, [math.log(2), 0, math.log(3), nan, nan])
    np.testing.assert_allclose(got.normalised_F, [1, 0, 1, nan, nan])
    assert mean_entropy(got.h_F) == pytest.approx(math.log(6) / 3)
    assert math.isnan(mean_entropy(got.h_F[3:]))


def test_a_shuffle_depends_on_seed_and_number_alone_and_moves_whole_rows() -> None:
    np.testing.assert_array_equal(shuffles(one_dataset(50), 3, 2), shuffles(one_dataset(50), 3, 5)[:2])
    assert len({tuple(p) for p in [*shuffles(one_dataset(50), 3, 5), *shuffles(one_dataset(50), 4, 5)]}) == 10
    y_NL = np.arange(20.0).reshape(10, 2)
    for y in permuted(y_NL, seed=0, n=3):
        assert sorted(map(tuple, y)) == sorted(map(tuple, y_NL))
    assert shuffles(one_dataset(4), 0, 0).shape == (0, 4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 60), max_size=4), as_sparse=st.booleans())
def test_any_sharding_gives_the_same_null(seed: int, cuts: list[int], as_sparse: bool) -> None:
    x_NF, y_NL = unrelated(seed)
    shuffles_KN, rng = shuffles(one_dataset(60), seed, 3), np.random.default_rng(seed)
    order, bounds = rng.permutation(60), [0, *sorted(cuts), 60]
    total = Comoments.zero(20, 3 * 4)
    for a, b in pairwise(bounds):
        x_nF = sparse.csr_array(x_NF[order[a:b]]) if as_sparse else x_NF[order[a:b]]
        total = null_comoments(x_nF, order[a:b], y_NL, shuffles_KN).merge(total)
    expected = entropy_null(x_NF, y_NL, permutations=3, seed=seed)
    np.testing.assert_allclose(null_draws(total, 4), expected.draws_K, rtol=0, atol=1e-10)
    assert expected.mean == pytest.approx(expected.draws_K.mean())
    assert expected.sd == pytest.approx(expected.draws_K.std(ddof=1))


def test_the_null_is_the_entropy_of_labels_shuffled_by_hand() -> None:
    x_NF, y_NL = unrelated(0)
    draws = [mean_entropy(label_entropy(Comoments.of(x_NF, y).pearson()).h_F) for y in permuted(y_NL, 5, 4)]
    np.testing.assert_allclose(entropy_null(x_NF, y_NL, permutations=4, seed=5).draws_K, draws, atol=1e-12)


def test_a_planted_concept_lies_under_the_null_and_noise_does_not() -> None:
    x_NF, y_NL = unrelated(1, n=400, units=40)
    noise = mean_entropy(label_entropy(Comoments.of(x_NF, y_NL).pearson()).h_F)
    null = entropy_null(x_NF, y_NL, permutations=20, seed=0)
    assert abs(noise - null.mean) < 4 * null.sd
    x_NF += 3 * np.nan_to_num(y_NL)[:, np.arange(40) % 4]
    planted = mean_entropy(label_entropy(Comoments.of(x_NF, y_NL).pearson()).h_F)
    assert planted < entropy_null(x_NF, y_NL, permutations=20, seed=0).mean - 4 * null.sd


def test_entropy_of_random_correlations_of_fourteen_labels_is_known() -> None:
    """Half-normal |r| over 14 labels average 2.371 nats: what noise gives, against ln 14 = 2.639."""
    r_FL = 0.01 * np.random.default_rng(0).normal(size=(20000, 14))
    assert mean_entropy(label_entropy(r_FL).h_F) == pytest.approx(2.371, abs=0.005)


def test_rows_that_do_not_match_are_refused() -> None:
    with pytest.raises(ArtifactError, match="do not match"):
        null_comoments(np.zeros((2, 1)), np.arange(3), np.zeros((5, 1)), shuffles(one_dataset(5), 0, 1))
    with pytest.raises(ArtifactError, match="do not match"):
        null_comoments(np.zeros((2, 1)), np.arange(2), np.zeros((5, 1)), shuffles(one_dataset(4), 0, 1))


def test_a_shuffle_stays_within_datasets_and_does_not_know_their_order() -> None:
    dataset_N = np.array(["b"] * 20 + ["a"] * 30)
    orders_KN = shuffles(dataset_N, 3, 4)
    assert (dataset_N[orders_KN] == dataset_N).all()
    turned_KN = shuffles(dataset_N[::-1], 3, 4)
    np.testing.assert_array_equal(orders_KN[:, :20], turned_KN[:, 30:] - 30)
    np.testing.assert_array_equal(orders_KN[:, 20:] - 20, turned_KN[:, :30])


def test_labels_that_follow_the_dataset_alone_are_at_their_null_only_within_datasets() -> None:
    """Units know the dataset, prevalences differ between datasets, and nothing else is there."""
    rng = np.random.default_rng(0)
    dataset_N = np.repeat(["a", "b"], 1500)
    prevalence_NL = np.where((dataset_N == "a")[:, None], [0.6, 0.3, 0.3, 0.3], [0.1, 0.3, 0.3, 0.3])
    y_NL = (rng.random((3000, 4)) < prevalence_NL).astype(float)
    x_NF = rng.random((3000, 20)) + (dataset_N == "a")[:, None] * rng.random(20)
    found = mean_entropy(label_entropy(Comoments.of(x_NF, y_NL).pearson()).h_F)

    def distance(names: np.ndarray) -> float:
        null = null_comoments(x_NF, np.arange(3000), y_NL, shuffles(names, 0, 20))
        draws = null_draws(null, 4)
        return float((found - draws.mean()) / draws.std(ddof=1))

    assert abs(distance(dataset_N)) < 4 < abs(distance(one_dataset(3000)))
