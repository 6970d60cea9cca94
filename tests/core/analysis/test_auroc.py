import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, special
from sklearn.metrics import roc_auc_score

from medsae_ray.core.analysis.auroc import auroc, auroc_columns, delong
from medsae_ray.errors import ArtifactError


def sample(seed: int, n: int, levels: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores with `levels` distinct values (many ties) that lean towards the positives."""
    rng = np.random.default_rng(seed)
    y_N = (rng.random(n) < 0.4).astype(float)
    return np.floor(levels * rng.beta(1 + y_N, 2)) / levels, y_N


def brute_force_se(scores_N: np.ndarray, y_N: np.ndarray) -> float:
    """DeLong (1988): the structural components by comparing every positive with every negative; 0 if a class has no
    variance of its own."""
    positive, negative = scores_N[y_N == 1], scores_N[y_N == 0]
    psi = (positive[:, None] > negative) + 0.5 * (positive[:, None] == negative)
    s10, s01 = psi.mean(1).var(ddof=1), psi.mean(0).var(ddof=1)
    return float(np.sqrt(s10 / len(positive) + s01 / len(negative))) if min(s10, s01) > 1e-18 else 0.0


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(12, 80), levels=st.sampled_from([2, 5, 1000]))
def test_area_and_interval_agree_with_sklearn_and_brute_force(seed: int, n: int, levels: int) -> None:
    scores_N, y_N = sample(seed, n, levels)
    y_N[:4] = [0, 1, 0, 1]
    got, area = auroc(scores_N, y_N), roc_auc_score(y_N, scores_N)
    assert got.auc == pytest.approx(area, abs=1e-10)
    assert (got.positives, got.negatives) == (y_N.sum(), n - y_N.sum())
    assert 0 <= got.low <= got.auc <= got.high <= 1
    assert got.high - got.low > 0.01
    if 0 < area < 1 and (se := brute_force_se(scores_N, y_N)) > 0:
        half = special.ndtri(0.975) * se / (area * (1 - area))
        assert got.low == pytest.approx(special.expit(special.logit(area) - half), abs=1e-10)
        assert got.high == pytest.approx(special.expit(special.logit(area) + half), abs=1e-10)


def test_four_rows_by_hand() -> None:
    """Positives 2 and 3, negatives 1 and 2: three pairs won, one tied at one half."""
    got = auroc([3.0, 2.0, 2.0, 1.0], [1, 1, 0, 0])
    assert got.auc == (1 + 1 + 1 + 0.5) / 4
    # V10 = (0.75, 1) and V01 = (1, 0.75): each variance is 1/32, so that of the area is 1/32/2 + 1/32/2.
    assert delong(np.array([0, 1, 1]), np.array([1, 1, 0])).variance == pytest.approx(1 / 32)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_order_of_rows_gives_the_same_bits(seed: int) -> None:
    scores_N, y_N = sample(seed, 40, 9)
    y_N[::7] = np.nan
    order = np.random.default_rng(seed).permutation(40)
    np.testing.assert_array_equal(auroc(scores_N[order], y_N[order]), auroc(scores_N, y_N))


def test_a_perfect_score_still_has_an_interval_with_a_width() -> None:
    """Wilson with 10 trials: 10 / (10 + 1.96^2)."""
    up = auroc(np.arange(40), np.arange(40) >= 30)
    assert (up.auc, up.high) == (1.0, 1.0)
    assert up.low == pytest.approx(10 / (10 + 1.959964**2), abs=1e-6)
    down = auroc(-np.arange(40), np.arange(40) >= 30)
    assert (down.auc, down.low) == (0.0, 0.0)
    assert down.high == pytest.approx(1 - up.low)


def test_constant_scores_and_a_single_positive_have_wide_intervals() -> None:
    flat = auroc(np.zeros(20), np.arange(20) < 5)
    assert flat.auc == 0.5
    assert flat.high - flat.low > 0.5
    single = auroc([1.0, 2.0, 3.0], [0, 1, 0])
    assert single.auc == 0.5
    assert single.high - single.low > 0.7


@pytest.mark.parametrize("y_N", [[1, 1, np.nan], [0, np.nan, 0], [np.nan] * 3, []])
def test_an_empty_class_has_no_area(y_N: list[float]) -> None:
    got = auroc(np.arange(len(y_N)), y_N)
    assert np.isnan([got.auc, got.low, got.high]).all()
    assert got.positives == np.nansum(np.asarray(y_N) == 1)


@pytest.mark.parametrize(
    ("scores_N", "y_N", "message"),
    [([np.nan, 1], [0, 1], "1 scores are NaN"), ([0, 1], [0, -1], "neither 0, 1"), ([0, 1], [0], "do not match")],
)
def test_bad_input_is_refused(scores_N: list[float], y_N: list[float], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        auroc(scores_N, y_N)


def test_columns_sparse_and_dense_equal_one_call_per_unit_bit_for_bit() -> None:
    rng = np.random.default_rng(1)
    x_NF = (rng.integers(-1, 4, (60, 12)) * (rng.random((60, 12)) < 0.3)).astype(np.float32)
    x_NF[:, 0] = 0
    y_NL = (rng.random((60, 3)) < 0.4).astype(float)
    y_NL[rng.random((60, 3)) < 0.2] = np.nan
    label_F = rng.integers(-1, 3, 12)
    label_F[:2] = [0, -1]
    got = auroc_columns(sparse.csc_array(x_NF), y_NL, label_F)
    np.testing.assert_array_equal(got, auroc_columns(x_NF, y_NL, label_F))
    for j, label in enumerate(label_F):
        expected = auroc(x_NF[:, j], y_NL[:, label]) if label >= 0 else (np.nan, np.nan, np.nan, 0, 0)
        np.testing.assert_array_equal(got[j], expected)


def test_columns_refuse_a_label_that_does_not_exist() -> None:
    with pytest.raises(ArtifactError, match="from -1 to 1"):
        auroc_columns(np.zeros((3, 1)), np.zeros((3, 2)), [2])


def test_most_of_the_intervals_hold_the_true_area() -> None:
    """Two normals one sd apart: the true area is Phi(1 / sqrt 2)."""
    rng, true = np.random.default_rng(0), special.ndtr(1 / np.sqrt(2))
    y_N = np.repeat([0.0, 1.0], [40, 30])
    found = [auroc(rng.normal(size=70) + y_N, y_N) for _ in range(2000)]
    assert np.mean([f.low < true < f.high for f in found]) == pytest.approx(0.95, abs=0.02)


def test_a_unit_that_is_silent_on_every_positive_gets_no_narrow_interval() -> None:
    scores_N = np.array([0.0] * 100 + [1.0] * 20)
    got = auroc(scores_N, np.array([1.0, 1.0] + [0.0] * 118))
    assert got.auc == pytest.approx(1 - 20 / 118 / 2 - 0.5 + 0.0, abs=1e-10) and got.low < 0.15 and got.high > 0.8
