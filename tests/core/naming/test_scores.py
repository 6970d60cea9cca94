import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score

from medsae_ray.core.naming.scores import best_label, ceiling, control, rank_p, score, wilson


def answers(seed: int, m: int, n: int, levels: int, shift: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """p(yes) with `levels` distinct values, leaning towards the positives."""
    rng, y = np.random.default_rng(seed), np.repeat([1.0, 0.0], [m, n])
    return np.round(rng.beta(1 + shift * y, 1.5) * levels) / levels, y


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), m=st.integers(1, 60), n=st.integers(1, 60), levels=st.sampled_from([1, 2, 7, 10**6]))
def test_a_score_agrees_with_sklearn_and_scipy(seed: int, m: int, n: int, levels: int) -> None:
    p, y = answers(seed, m, n, levels)
    got = score(p, y, np.full(len(p), 0.4))
    assert (got.n_pos, got.n_neg, got.failed, got.low_mass) == (m, n, 0, m + n)
    assert got.area.auc == pytest.approx(roc_auc_score(y, p))
    assert got.accuracy == pytest.approx(accuracy_score(y, p >= 0.5))
    assert got.balanced_accuracy == pytest.approx(balanced_accuracy_score(y, p >= 0.5))
    interval = stats.binomtest(round(got.accuracy * (m + n)), m + n).proportion_ci(method="wilson")
    assert (got.accuracy_low, got.accuracy_high) == pytest.approx(tuple(interval))
    assert got.p == pytest.approx(rank_p_by_hand(p, y), rel=1e-15, abs=0)


def rank_p_by_hand(p: np.ndarray, y: np.ndarray) -> float:
    """The normal approximation as it is written: how far the rank sum of the positives is above its mean, in standard
    deviations, with the variance that ties leave and half a rank off."""
    m, n, ties = int(y.sum()), int((1 - y).sum()), np.unique(p, return_counts=True)[1].astype(float)
    above = stats.rankdata(p)[y == 1].sum() - m * (m + 1) / 2
    variance = m * n / 12 * (m + n + 1 - (ties**3 - ties).sum() / ((m + n) * (m + n - 1)))
    return 1.0 if variance <= 0 else float(special.ndtr((m * n / 2 + 0.5 - above) / np.sqrt(variance)))


@pytest.mark.parametrize("levels", [3, 10**6])
def test_p_is_that_of_a_permutation_test(levels: int) -> None:
    p, y = answers(3, 50, 50, levels)
    rng, ranks = np.random.default_rng(0), stats.rankdata(p)
    null = np.array([ranks[rng.permutation(100)[:50]].sum() for _ in range(20000)])
    assert rank_p(p, y) == pytest.approx((null >= ranks[:50].sum()).mean(), abs=0.006)


@pytest.mark.parametrize("each", [10, 25, 50])
def test_p_never_falls_far_below_the_exact_p(each: int) -> None:
    """Without ties the exact distribution is known; in the tail the normal one is on the safe side."""
    for seed in range(30):
        p, y = answers(seed, each, each, 10**6, shift=seed / 10)
        exact = stats.mannwhitneyu(p[:each], p[each:], alternative="greater", method="exact").pvalue
        assert rank_p(p, y) > 0.9 * exact
        if 0.01 < exact < 0.5:
            assert rank_p(p, y) == pytest.approx(exact, rel=0.15 if each == 10 else 0.1)


def test_answers_that_are_all_equal_prove_nothing() -> None:
    got = score(np.full(20, 0.3), np.repeat([1, 0], 10))
    assert (got.area.auc, got.p, got.accuracy) == (0.5, 1.0, 0.5)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), lost=st.integers(1, 30))
def test_a_failed_answer_counts_as_wrong_and_ranks_worst(seed: int, lost: int) -> None:
    p, y = answers(seed, 20, 25, 9)
    p[np.random.default_rng(seed).permutation(45)[:lost]] = np.nan
    got = score(p, y, p)
    assert got.failed == lost
    assert got.accuracy * 45 == pytest.approx(((p >= 0.5) == (y == 1))[~np.isnan(p)].sum())
    worst = np.where(np.isnan(p), np.where(y == 1, -np.inf, np.inf), p)
    wins = (worst[y == 1][:, None] > worst[y == 0]) + 0.5 * (worst[y == 1][:, None] == worst[y == 0])
    assert got.area.auc == pytest.approx(wins.mean())
    kept = control(p, y)
    assert kept.failed == 0 and kept.n_pos + kept.n_neg == 45 - lost
    assert np.isnan(kept.area.auc) or kept.area.auc >= got.area.auc - 1e-12


def test_a_sample_without_a_class_has_no_area() -> None:
    assert np.isnan(score([0.2, 0.9], [1, 1]).area.auc) and np.isnan(score([0.2, 0.9], [1, 1]).p)
    assert control([np.nan], [1]).n_pos == 0 and all(np.isnan(wilson(0, 0)))


def test_the_ceiling_leaves_out_unknown_labels_and_counts_failed_answers_as_wrong() -> None:
    area = ceiling([0.9, np.nan, 0.1, 0.2, 0.99], [1, 1, 0, 0, np.nan])
    assert (area.auc, area.positives, area.negatives) == (0.5, 2, 2)


def test_the_best_label_is_the_one_present_where_the_feature_is_active() -> None:
    y = np.repeat([1, 0], 4)
    labels = {"absent": 1.0 - y, "half": [1, 1, 0, 0, 0, 0, 0, 0], "unknown": [np.nan] * 8}
    assert best_label(labels, y) == ("half", 0.75)
    assert best_label({**labels, "all": [1, 1, 1, np.nan, 0, 0, 0, 0]}, y) == ("all", 1.0)
    assert best_label({"unknown": labels["unknown"]}, y).label is None
