from functools import reduce
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.errors import ArtifactError

UNITS, LABELS = 5, 3


def table(seed: int, n: int, offset: float) -> tuple[np.ndarray, np.ndarray]:
    """Units: sd about 1 and mean `offset`, the first constant; labels: 0/1, offset numbers, and one constant."""
    rng = np.random.default_rng(seed)
    x_NF = rng.normal(size=(n, UNITS)) + offset
    x_NF[:, 0] = 0.1 + offset
    y_NL = np.stack([rng.random(n) < 0.3, rng.normal(size=n) - offset, np.full(n, 0.7)], axis=1).astype(float)
    y_NL[rng.random((n, LABELS)) < 0.3] = np.nan
    return x_NF, y_NL


def scipy_r(x_NF: np.ndarray, y_NL: np.ndarray) -> np.ndarray:
    def r(x: np.ndarray, y: np.ndarray) -> float:
        known = ~np.isnan(y)
        x, y = x[known], y[known]
        return stats.pearsonr(x, y)[0] if len(x) >= 3 and np.ptp(x) > 0 and np.ptp(y) > 0 else np.nan

    return np.array([[r(x, y) for y in y_NL.T] for x in x_NF.T])


def merged_in_random_tree(shards: list[Comoments], rng: np.random.Generator) -> Comoments:
    while len(shards) > 1:
        a, b = (shards.pop(rng.integers(len(shards))) for _ in range(2))
        shards.append(a.merge(b))
    return shards[0]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(0, 60),
    offset=st.sampled_from([0.0, 1.0, -300.0, 1e4]),
    cuts=st.lists(st.integers(0, 60), max_size=6),
    as_sparse=st.booleans(),
)
def test_any_sharding_and_merge_order_agrees_with_scipy(
    seed: int, n: int, offset: float, cuts: list[int], as_sparse: bool
) -> None:
    x_NF, y_NL = table(seed, n, offset)
    if as_sparse:
        x_NF *= np.random.default_rng(seed).random(x_NF.shape) < 0.5
        x_NF[:, 1] = offset + np.arange(n) % 3  # a unit that is always on
    bounds = [0, *sorted(min(c, n) for c in cuts), n]
    y_NL[bounds[0] : bounds[1], 1] = np.nan  # a label that is known nowhere in a shard
    shards = [
        Comoments.of(sparse.csr_array(x_NF[a:b]) if as_sparse else x_NF[a:b], y_NL[a:b]) for a, b in pairwise(bounds)
    ]
    both = merged_in_random_tree(shards, np.random.default_rng(seed))
    np.testing.assert_allclose(both.pearson(), scipy_r(x_NF, y_NL), rtol=0, atol=1e-10)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.tuples(*[st.integers(0, 12)] * 3))
def test_merging_is_a_commutative_monoid(seed: int, sizes: tuple[int, int, int]) -> None:
    a, b, c = (Comoments.of(*table(seed + i, n, 10.0)) for i, n in enumerate(sizes))
    assert_close(a.merge(b).merge(c), a.merge(b.merge(c)), 1e-9)
    assert_close(a.merge(b), b.merge(a), 0.0)
    assert_close(a.merge(Comoments.zero(UNITS, LABELS)), a, 0.0)
    assert_close(Comoments.zero(UNITS, LABELS).merge(a), a, 0.0)


def assert_close(a: Comoments, b: Comoments, atol: float) -> None:
    for name in vars(a):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=0, atol=atol, err_msg=name)


def test_three_rows_by_hand() -> None:
    got = Comoments.of(np.array([[1.0], [2.0], [6.0], [9.0]]), np.array([[0.0], [0.0], [1.0], [np.nan]]))
    assert got.count_L.tolist() == [3]
    assert got.mean_x_FG[0, 0] == 3.0
    assert got.m2_x_FG[0, 0] == pytest.approx(4 + 1 + 9)
    assert got.m2_y_L[0] == pytest.approx(2 / 3)
    assert got.c_FL[0, 0] == pytest.approx(3.0)
    assert got.pearson()[0, 0] == pytest.approx(3 / np.sqrt(14 * 2 / 3))


def test_sparse_and_dense_input_agree() -> None:
    x_NF, y_NL = table(3, 40, 0.0)
    x_NF = np.maximum(x_NF, 0).astype(np.float32)
    assert_close(Comoments.of(sparse.csr_array(x_NF), y_NL), Comoments.of(x_NF, y_NL), 1e-12)


def test_rows_whose_label_is_unknown_cannot_spoil_the_pivot() -> None:
    rng = np.random.default_rng(0)
    x_NF, y_NL = rng.normal(size=(50, 1)), rng.normal(size=(50, 1))
    x_NF[0], y_NL[0] = 1e15, np.nan
    r = Comoments.of(x_NF, y_NL).pearson()[0, 0]
    assert r == pytest.approx(stats.pearsonr(x_NF[1:, 0], y_NL[1:, 0])[0], abs=1e-10)


@pytest.mark.parametrize("value", [0.1, 1e-7, 12345.678, -0.3])
def test_a_constant_column_has_no_correlation_however_it_is_sharded(value: float) -> None:
    y_NL = (np.arange(3000)[:, None] % 3 == 0).astype(float)
    total = Comoments.zero(1, 1)
    for start in range(0, 3000, 130):
        rows = y_NL[start : start + 130]
        total = total.merge(Comoments.of(np.full((len(rows), 1), value), rows))
    assert np.isnan(total.pearson()).all()


def test_float32_data_that_barely_vary_still_have_a_correlation() -> None:
    x_NF = np.full((1000, 1), 1000.0, np.float32)
    x_NF[7] = np.nextafter(np.float32(1000), np.float32(2000))
    y_NL = (np.arange(1000) == 7).astype(float)[:, None]
    assert Comoments.of(x_NF, y_NL).pearson()[0, 0] == pytest.approx(1.0)


def test_two_rows_have_no_correlation() -> None:
    assert np.isnan(Comoments.of(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])).pearson()).all()


@pytest.mark.parametrize(
    ("x_NF", "y_NL", "message"),
    [
        (np.zeros((2, 1)), np.zeros((3, 1)), r"\[2, labels\] is needed"),
        (np.array([[np.nan]]), np.zeros((1, 1)), "1 unit values are NaN"),
        (sparse.csr_array(np.array([[np.inf]])), np.zeros((1, 1)), "1 unit values are NaN"),
        (np.zeros(3), np.zeros((3, 1)), r"\[images, units\] is needed"),
        (np.zeros((1, 1)), np.full((1, 1), np.inf), "label is infinite"),
    ],
)
def test_bad_input_is_refused(x_NF: np.ndarray, y_NL: np.ndarray, message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        Comoments.of(x_NF, y_NL)


def test_other_shapes_do_not_merge() -> None:
    with pytest.raises(ArtifactError, match="cannot be merged"):
        Comoments.zero(2, 3).merge(Comoments.zero(3, 2))


def numpy_r(x_NF: np.ndarray, y_NL: np.ndarray, weight_NL: np.ndarray) -> np.ndarray:
    def r(x: np.ndarray, y: np.ndarray, w: np.ndarray) -> float:
        known = ~np.isnan(y)
        cov = np.cov(x[known], y[known], aweights=w[known], ddof=0)
        return cov[0, 1] / np.sqrt(cov[0, 0] * cov[1, 1])

    return np.array([[r(x, y, w) for y, w in zip(y_NL.T, weight_NL.T, strict=True)] for x in x_NF.T])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 60), max_size=6), as_sparse=st.booleans())
def test_weighted_rows_merge_to_what_numpy_says_of_all(seed: int, cuts: list[int], as_sparse: bool) -> None:
    rng = np.random.default_rng(seed)
    x_NF, y_NL = rng.normal(size=(60, UNITS)) + 3, rng.normal(size=(60, LABELS))
    if as_sparse:
        x_NF *= rng.random(x_NF.shape) < 0.5
    y_NL[rng.random(y_NL.shape) < 0.2] = np.nan
    weight_NL = 1 / rng.integers(1, 5, y_NL.shape)
    bounds = [0, *sorted(cuts), 60]
    found = merged_in_random_tree(
        [
            Comoments.of(sparse.csr_array(x_NF[a:b]) if as_sparse else x_NF[a:b], y_NL[a:b], weight_NL[a:b])
            for a, b in pairwise(bounds)
        ],
        rng,
    )
    np.testing.assert_allclose(found.pearson(), numpy_r(x_NF, y_NL, weight_NL), atol=1e-12)


def test_a_weight_of_two_is_a_row_that_comes_twice() -> None:
    x_NF, y_NL = table(3, 40, 1.0)
    twice = np.arange(40) % 2
    weighted = Comoments.of(x_NF, y_NL, np.broadcast_to(1.0 + twice[:, None], y_NL.shape))
    again = np.repeat(np.arange(40), 1 + twice)
    np.testing.assert_allclose(weighted.pearson(), Comoments.of(x_NF[again], y_NL[again]).pearson(), atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 60), max_size=6), kinds=st.integers(1, 4))
def test_labels_that_share_means_merge_to_the_same_bits_as_each_alone(seed: int, cuts: list[int], kinds: int) -> None:
    rng = np.random.default_rng(seed)
    x_NF, y_NL = rng.normal(size=(60, UNITS)), rng.normal(size=(60, 12))
    kind_L = rng.integers(0, kinds, 12)  # labels of one kind are known on the same rows
    y_NL[(rng.random((60, kinds)) < 0.3)[:, kind_L]] = np.nan
    shards = [Comoments.of(x_NF[a:b], y_NL[a:b]) for a, b in pairwise([0, *sorted(cuts), 60])]
    both = reduce(Comoments.merge, shards)
    for label in range(12):
        alone = reduce(Comoments.merge, (shard.of_labels(slice(label, label + 1)) for shard in shards))
        one = both.of_labels(slice(label, label + 1))
        for name in ("count_L", "weight_L", "mean_y_L", "m2_y_L", "c_FL"):
            np.testing.assert_array_equal(getattr(one, name), getattr(alone, name), err_msg=name)
        np.testing.assert_array_equal(both.mean_x_FG[:, both.group_L[label]], alone.mean_x_FG[:, alone.group_L[0]])
        np.testing.assert_array_equal(one.pearson(), alone.pearson())
    assert both.mean_x_FG.shape[1] <= kinds


def test_shuffles_of_labels_that_are_known_everywhere_keep_one_mean_of_each_unit() -> None:
    x_NF, y_NL = np.random.default_rng(0).normal(size=(2, 40, 3))
    y_NL = np.tile(y_NL, 50)
    found = Comoments.of(x_NF[:20], y_NL[:20]).merge(Comoments.of(x_NF[20:], y_NL[20:]))
    assert found.mean_x_FG.shape == found.m2_x_FG.shape == (3, 1)
    assert found.pearson().shape == (3, 150)
