from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.covariance import OAS

from medsae_ray.core.analysis.scatter import Scatter
from medsae_ray.errors import ArtifactError

DIM, GROUPS = 4, 3


def rows(seed: int, n: int, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Correlated embeddings around the mean of each of three groups; the last dimension is constant."""
    rng = np.random.default_rng(seed)
    group_N = rng.integers(0, GROUPS, n)
    x_ND = rng.normal(size=(n, DIM)) @ rng.normal(size=(DIM, DIM)) + group_N[:, None] + offset
    x_ND[:, -1] = offset
    return x_ND, group_N


def assert_close(a: Scatter, b: Scatter, atol: float) -> None:
    for name in vars(a):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-9, atol=atol, err_msg=name)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 60),
    offset=st.sampled_from([0.0, -300.0, 1e4]),
    cuts=st.lists(st.integers(0, 60), max_size=6),
)
def test_any_sharding_and_order_agrees_with_numpy(seed: int, n: int, offset: float, cuts: list[int]) -> None:
    x_ND, group_N = rows(seed, n, offset)
    bounds = [0, *sorted(min(cut, n) for cut in cuts), n]
    parts = [Scatter.of(x_ND[a:b], group_N[a:b], GROUPS) for a, b in pairwise(bounds)]
    rng = np.random.default_rng(seed)
    while len(parts) > 1:
        a, b = (parts.pop(rng.integers(len(parts))) for _ in range(2))
        parts.append(a.merge(b))
    within_DD = np.zeros((DIM, DIM))
    for group in np.unique(group_N):
        own = x_ND[group_N == group]
        within_DD += np.cov(own.T, bias=True) * len(own)
        np.testing.assert_allclose(parts[0].mean_KD[group], own.mean(0), rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(parts[0].within_DD, within_DD, rtol=1e-9, atol=1e-7)
    assert parts[0].count_K.tolist() == np.bincount(group_N, minlength=GROUPS).tolist()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.tuples(*[st.integers(0, 12)] * 3))
def test_merging_is_a_commutative_monoid(seed: int, sizes: tuple[int, int, int]) -> None:
    a, b, c = (Scatter.of(*rows(seed + i, n, 10.0), GROUPS) for i, n in enumerate(sizes))
    assert_close(a.merge(b).merge(c), a.merge(b.merge(c)), 1e-9)
    assert_close(a.merge(b), b.merge(a), 1e-12)
    assert_close(a.merge(Scatter.zero(GROUPS, DIM)), a, 0.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(2, 80), dim=st.integers(2, 40))
def test_shrinkage_is_that_of_scikit_learn(seed: int, n: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    x_ND = rng.normal(size=(n, dim)) * rng.gamma(1, 1, dim) + 5
    theirs, ours = OAS().fit(x_ND), Scatter.of(x_ND, np.zeros(n, int), 1).covariance()
    assert ours.shrinkage == pytest.approx(theirs.shrinkage_, rel=1e-9)
    np.testing.assert_allclose(ours.matrix_DD, theirs.covariance_, rtol=1e-9, atol=1e-12)


def test_two_hospitals_of_equal_spread_have_the_covariance_of_one() -> None:
    x_ND = np.random.default_rng(0).normal(size=(50, DIM))
    far_ND, group_N = np.concatenate([x_ND, x_ND + 100]), np.repeat([0, 1], 50)
    one, two = Scatter.of(x_ND, np.zeros(50, int), 1), Scatter.of(far_ND, group_N, 2)
    np.testing.assert_allclose(two.within_DD / 100, one.within_DD / 50, atol=1e-9)


def test_equal_rows_have_no_spread() -> None:
    found = Scatter.of(np.full((5, DIM), 0.1, np.float32), np.zeros(5, int), 1).covariance()
    assert found.shrinkage == 1.0 and np.abs(found.matrix_DD).max() < 1e-15


def test_bad_input_is_refused() -> None:
    with pytest.raises(ArtifactError, match="NaN or infinite"):
        Scatter.of(np.array([[np.nan]]), np.zeros(1, int), 1)
    with pytest.raises(ArtifactError, match="cannot be merged"):
        Scatter.zero(1, 2).merge(Scatter.zero(1, 3))
