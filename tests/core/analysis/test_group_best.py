"""The best image of each unit and group, against a plain loop, dense and sparse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.analysis.group_best import group_best


def by_loop(x_NF: np.ndarray, group_N: np.ndarray, least: float | None) -> set[tuple[int, int, float]]:
    best: dict[tuple[int, int], tuple[int, float]] = {}
    for row, values in enumerate(x_NF):
        for unit, value in enumerate(values):
            pair = unit, int(group_N[row])
            counts = value != 0 if least is None else value > least
            if counts and (pair not in best or value > best[pair][1]):
                best[pair] = row, value
    return {(unit, row, value) for (unit, _), (row, value) in best.items()}


def strongest(entries: set[tuple[int, int, float]], k: int) -> set[tuple[int, int, float]]:
    """The k largest of each unit, and what is as large as the last of them."""
    own = {u: sorted((v for unit, _, v in entries if unit == u), reverse=True)[:k] for u, _, _ in entries}
    return {(u, row, v) for u, row, v in entries if v >= own[u][-1]}


@given(seed=st.integers(0, 10**6), rows=st.integers(0, 12), groups=st.integers(1, 5), k=st.integers(1, 5),
       least=st.sampled_from([None, 0.0]))  # fmt: skip
@pytest.mark.parametrize("is_sparse", [False, True])
def test_agrees_with_a_plain_loop(
    is_sparse: bool, seed: int, rows: int, groups: int, k: int, least: float | None
) -> None:
    rng = np.random.default_rng(seed)
    x_NF, group_N = rng.integers(-2, 3, (rows, 4)).astype(np.float64), rng.integers(0, groups, rows)
    found = group_best(sparse.csr_array(x_NF) if is_sparse else x_NF, group_N, k, least)
    entries = list(zip(*(values.tolist() for values in found), strict=True))
    every = by_loop(x_NF, group_N, least)
    assert len(set(entries)) == len(entries) and strongest(every, k) <= set(entries) <= every


def test_stored_zeros_do_not_count_and_with_no_bound_every_dense_value_does() -> None:
    x = sparse.csr_array((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 1, 2])), shape=(2, 2))
    assert [values.tolist() for values in group_best(x, np.array([0, 0]), 9)] == [[1], [1], [2.0]]
    dense = group_best(np.array([[0.0, -1], [-3, -1]]), np.array([7, 7]), 9, -np.inf)
    assert [values.tolist() for values in dense] == [[0, 1], [0, 0], [0.0, -1.0]]
