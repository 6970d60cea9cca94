import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from medsae_ray.core.analysis.units import TopImages, UnitStats
from medsae_ray.errors import ArtifactError

UNITS, N, K = 4, 24, 3


def images(seed: int, signed: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Small whole values, so that ties abound and sums are exact; about three images a patient; ids of any length."""
    rng = np.random.default_rng(seed)
    x_NF = rng.integers(-2 if signed else 0, 4, (N, UNITS)).astype(np.float32)
    image_ids = np.array([f"i{k}" for k in rng.choice(2000, N, replace=False)])
    return x_NF, image_ids, np.array([f"p{k}" for k in rng.integers(0, 8, N)])


def plain_top(x_N: np.ndarray, image_ids: np.ndarray, patient_ids: np.ndarray, k: int) -> list[tuple[str, str, float]]:
    best: dict[str, tuple[str, str, float]] = {}
    for value, image, patient in sorted(zip(-x_N, image_ids, patient_ids, strict=True)):
        if value != 0:
            best.setdefault(patient, (image, patient, -value))
    return list(best.values())[:k]


def assert_same(a: UnitStats, b: UnitStats) -> None:
    for left, right in ((a, b), (a.top, b.top)):
        for name in set(vars(left)) - {"top"}:
            np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=5), kind=st.sampled_from("sd±"))
def test_any_sharding_and_merge_order_gives_the_same_bits(seed: int, cuts: list[int], kind: str) -> None:
    x_NF, image_ids, patient_ids = images(seed, signed=kind == "±")
    rng, bounds = np.random.default_rng(seed), [0, *sorted(cuts), N]
    order = rng.permutation(N)
    shards = [UnitStats.zero(UNITS, K)]
    for rows in (order[a:b] for a, b in pairwise(bounds)):
        values = sparse.csr_array(x_NF[rows]) if kind == "s" else x_NF[rows]
        shards.append(UnitStats.of(values, image_ids[rows], patient_ids[rows], K))
    while len(shards) > 1:
        a, b = (shards.pop(rng.integers(len(shards))) for _ in range(2))
        assert_same(a.merge(b), b.merge(a))
        shards.append(a.merge(b))
    assert_same(shards[0], UnitStats.of(x_NF, image_ids, patient_ids, K))
    assert_same(shards[0].merge(UnitStats.zero(UNITS, K)), shards[0])


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 9), signed=st.booleans())
def test_top_images_agree_with_a_plain_loop(seed: int, k: int, signed: bool) -> None:
    x_NF, image_ids, patient_ids = images(seed, signed)
    expected = [plain_top(x_N, image_ids, patient_ids, k) for x_N in x_NF.T]
    for values in (x_NF, sparse.csr_array(x_NF)):
        got = TopImages.of(values, image_ids, patient_ids, k).per_unit()
        assert [list(zip(*top, strict=True)) for top in got] == expected


def test_one_patient_gives_one_image_and_ties_go_to_the_first_id() -> None:
    top = TopImages.of(
        np.array([[5.0, 0.0], [7.0, 0.0], [5.0, 0.0], [5.0, 0.0]]), ["d", "c", "b", "a"], ["p", "p", "q", "r"], k=2
    )
    first, second = top.per_unit()
    assert first == (["c", "a"], ["p", "r"], [7.0, 5.0])
    assert second == ([], [], [])
    assert top.image_I.tolist() == ["a", "c"]


def test_counts_by_hand() -> None:
    got = UnitStats.of(np.array([[0.0, -2.0], [1.0, -3.0], [3.0, -2.0]]), ["a", "b", "c"], ["p", "q", "r"], k=1)
    assert got.n_images == 3
    assert got.n_active_F.tolist() == [2, 3]
    assert got.max_F.tolist() == [3.0, -2.0]
    assert got.mean_active().tolist() == [2.0, pytest.approx(-7 / 3)]
    assert got.frequency().tolist() == [pytest.approx(2 / 3), 1.0]
    assert np.isnan(UnitStats.zero(2).mean_active()).all()
    assert np.isnan(UnitStats.zero(2).frequency()).all()


def test_histogram_bins_are_half_octaves_and_the_ends_take_the_rest() -> None:
    values = np.array([2**-12, 2**-20, 0.0, 1.0, -1.0, 1.5, 2.0, 15.9, 16.0, 1e6])
    got = UnitStats.of(values[:, None], [*"abcdefghij"], [*"abcdefghij"]).histogram_FB[0]
    assert {int(b): int(got[b]) for b in np.flatnonzero(got)} == {0: 2, 24: 2, 25: 1, 26: 1, 31: 3}


def test_explicit_zeros_of_a_sparse_array_are_not_active() -> None:
    x_NF = sparse.csr_array((np.array([0.0, 2.0]), np.array([0, 0]), np.array([0, 1, 2])), shape=(2, 1))
    got = UnitStats.of(x_NF, ["a", "b"], ["p", "q"])
    assert got.n_active_F.tolist() == [1]
    assert got.top.per_unit()[0].image_ids == ["b"]
    assert x_NF.nnz == 2, "the input is left as it was"


def test_ids_that_do_not_fit_are_refused() -> None:
    x_NF = np.ones((2, 1))
    with pytest.raises(ArtifactError, match="1 distinct"):
        UnitStats.of(x_NF, ["a", "a"], ["p", "q"])
    with pytest.raises(ArtifactError, match="for 2 rows"):
        UnitStats.of(x_NF, ["a", "b"], ["p"])
    one, two = TopImages.of(x_NF[:1], ["a"], ["p"]), TopImages.of(x_NF[:1], ["a"], ["q"])
    with pytest.raises(ArtifactError, match="'a' belongs to two patients"):
        one.merge(two)
    with pytest.raises(ArtifactError, match="cannot be merged"):
        one.merge(TopImages.zero(1, k=2))
    with pytest.raises(ArtifactError, match="at least 1"):
        TopImages.zero(1, k=0)


def test_a_wide_sparse_shard_takes_well_under_a_second() -> None:
    rng = np.random.default_rng(0)
    x_NF = sparse.random_array((512, 8192), density=32 / 8192, format="csr", rng=rng)
    ids = [f"{i:05d}" for i in range(512)]
    start = time.process_time()
    UnitStats.of(x_NF, ids, ids)
    assert time.process_time() - start < 0.5
