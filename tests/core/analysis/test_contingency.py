from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, stats
from sklearn.metrics import roc_auc_score

from medsae_ray.core.analysis.contingency import Overlap
from medsae_ray.errors import ArtifactError

N, UNITS, LABELS = 40, 5, 3


def shard(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(-1, 3, (N, UNITS)).astype(np.float32), rng.choice([0.0, 1.0, np.nan], (N, LABELS))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=4), dense=st.booleans())
def test_any_sharding_counts_the_same(seed: int, cuts: list[int], dense: bool) -> None:
    x_NF, y_NL = shard(seed)
    order, bounds = np.random.default_rng(seed).permutation(N), [0, *sorted(cuts), N]
    total = Overlap.of(x_NF[:0], y_NL[:0])
    for rows in (order[a:b] for a, b in pairwise(bounds)):
        total = Overlap.of(x_NF[rows] if dense else sparse.csr_array(x_NF[rows]), y_NL[rows]).merge(total)
    for mine, others in zip(total, Overlap.of(x_NF, y_NL), strict=True):
        assert mine.dtype == np.int64
        np.testing.assert_array_equal(mine, others)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_p_is_fishers_exact_test(seed: int) -> None:
    x_NF, y_NL = shard(seed)
    label_F = np.random.default_rng(seed).integers(-1, LABELS, UNITS)
    for x_N, label, p in zip(x_NF.T, label_F, Overlap.of(x_NF, y_NL).p(label_F), strict=True):
        if label < 0:
            assert np.isnan(p)
            continue
        active, has = (v[~np.isnan(y_NL[:, label])] for v in (x_N != 0, y_NL[:, label] == 1))
        table = [[(a & h).sum() for h in (has, ~has)] for a in (active, ~active)]
        assert p == pytest.approx(stats.fisher_exact(table, alternative="greater").pvalue, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_fewer_is_the_other_tail_of_fishers_test(seed: int) -> None:
    x_NF, y_NL = shard(seed)
    label_F = np.random.default_rng(seed).integers(0, LABELS, UNITS)
    fewer_F = np.ones(UNITS, dtype=bool)
    for x_N, label, p in zip(x_NF.T, label_F, Overlap.of(x_NF, y_NL).p(label_F, fewer_F), strict=True):
        active, has = (v[~np.isnan(y_NL[:, label])] for v in (x_N != 0, y_NL[:, label] == 1))
        table = [[(a & h).sum() for h in (has, ~has)] for a in (active, ~active)]
        assert p == pytest.approx(stats.fisher_exact(table, alternative="less").pvalue, rel=1e-9)


def by_hand(margins: list[tuple[int, int, int]], both: int, fewer: bool) -> float:
    """The tail of a sum of hypergeometric numbers, by all combinations of what each may be."""
    ranges = [range(min(positive, active) + 1) for _, positive, active in margins]
    chance = 0.0
    for values in product(*ranges):
        if sum(values) <= both if fewer else sum(values) >= both:
            chance += np.prod([stats.hypergeom.pmf(v, *margin) for v, margin in zip(values, margins, strict=True)])
    return float(chance)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_over_several_datasets_p_is_the_exact_tail_within_them(seed: int) -> None:
    x_NF, y_NL = shard(seed)
    rng = np.random.default_rng(seed)
    dataset_N, label_F, fewer_F = rng.integers(0, 3, N), rng.integers(0, LABELS, UNITS), rng.random(UNITS) < 0.5
    found = Overlap.of(x_NF, y_NL, dataset_N, 3)
    for x_N, label, fewer, p in zip(x_NF.T, label_F, fewer_F, found.p(label_F, fewer_F), strict=True):
        known, margins, both = ~np.isnan(y_NL[:, label]), [], 0
        for dataset in range(3):
            rows = known & (dataset_N == dataset)
            has, active = y_NL[rows, label] == 1, x_N[rows] != 0
            margins.append((int(rows.sum()), int(has.sum()), int(active.sum())))
            both += int((has & active).sum())
        assert p == pytest.approx(by_hand(margins, both, bool(fewer)), rel=1e-6, abs=1e-12)


def test_a_unit_that_knows_a_dataset_and_nothing_of_a_label_is_significant_only_if_datasets_are_mixed() -> None:
    rng = np.random.default_rng(1)
    dataset_N = np.repeat([0, 1], 2000)
    y_NL = (rng.random((4000, 1)) < np.where(dataset_N == 0, 0.7, 0.2)[:, None]).astype(float)
    x_NF = (rng.random((4000, 1)) < np.where(dataset_N == 0, 0.6, 0.1)[:, None]).astype(float)
    label_F, present_F = np.array([0]), np.array([False])
    mixed, apart = Overlap.of(x_NF, y_NL), Overlap.of(x_NF, y_NL, dataset_N, 2)
    assert mixed.p(label_F)[0] < 1e-20 and apart.p(label_F)[0] > 0.01
    assert mixed.area(label_F, present_F)[0] > 0.6 and apart.area(label_F, present_F)[0] == pytest.approx(0.5, abs=0.02)


def test_the_area_of_active_or_silent_is_an_auroc() -> None:
    x_NF, y_NL = shard(7)
    label_F, fewer_F = np.array([0, 1, 2, -1, 0]), np.array([False, True, False, False, True])
    for x_N, label, fewer, area in zip(
        x_NF.T, label_F, fewer_F, Overlap.of(x_NF, y_NL).area(label_F, fewer_F), strict=True
    ):
        if label < 0:
            assert np.isnan(area)
            continue
        known = ~np.isnan(y_NL[:, label])
        expected = roc_auc_score(y_NL[known, label], x_N[known] != 0)
        assert area == pytest.approx(1 - expected if fewer else expected)


def test_large_margins_keep_a_tail_and_no_labels_are_no_error() -> None:
    x_NF, y_NL = np.zeros((30_000, 1)), np.zeros((30_000, 1))
    x_NF[::2], y_NL[::3] = 1, 1
    dataset_N = np.arange(30_000) % 2
    assert 0 < Overlap.of(x_NF, y_NL, dataset_N, 2).p(np.array([0]))[0] <= 1
    assert np.isnan(Overlap.of(x_NF, y_NL[:, :0]).p(np.array([-1]))).all()


def test_two_coincidences_of_a_rare_unit_with_a_rare_label_are_not_taken_for_proof() -> None:
    x_NF, y_NL = np.zeros((1000, 1)), np.zeros((1000, 1))
    x_NF[:3], y_NL[1:11] = 1, 1
    (p,) = Overlap.of(x_NF, y_NL).p(np.array([0]))
    t_test = stats.pearsonr(x_NF[:, 0], y_NL[:, 0]).pvalue
    assert t_test < 1e-30 < 1e-4 < p < 1e-3


def test_shapes_that_do_not_match_are_refused() -> None:
    with pytest.raises(ArtifactError):
        Overlap.of(np.ones((3, 1)), np.ones((2, 1)))
