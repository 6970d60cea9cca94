import numpy as np
import pytest
from scipy import stats

from medsae_ray.core.analysis.pearson import fisher_interval, pearson_p


@pytest.mark.parametrize("n", [4, 5, 30, 4000])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_interval_and_p_agree_with_scipy(n: int, level: float) -> None:
    rng = np.random.default_rng(n)
    for slope in (0.0, 0.5, -5.0):
        x = rng.normal(size=n)
        found = stats.pearsonr(x, slope * x + rng.normal(size=n))
        expected = found.confidence_interval(level)
        low, high = fisher_interval(found.statistic, n, level)
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
        assert pearson_p(found.statistic, n) == pytest.approx(found.pvalue, rel=1e-9)


def test_zero_correlation_of_seven_rows_by_hand() -> None:
    low, high = fisher_interval(0.0, 7)
    assert high == pytest.approx(np.tanh(1.959964 / 2), abs=1e-6)
    assert low == -high
    assert pearson_p(0.0, 7) == 1.0


def test_shapes_broadcast_and_too_few_rows_give_nan() -> None:
    r_FL, n_L = np.array([[0.1, 0.2, 0.3], [np.nan, 1.0, -1.0]]), np.array([3, 4, 2])
    low, high = fisher_interval(r_FL, n_L)
    assert np.isnan(low).tolist() == [[True, False, True], [True, False, True]]
    assert np.isnan(high).tolist() == np.isnan(low).tolist()
    assert np.isnan(pearson_p(r_FL, n_L)).tolist() == [[False, False, True], [True, False, True]]


def test_most_of_the_intervals_hold_the_true_correlation() -> None:
    rng = np.random.default_rng(0)
    x, noise = rng.normal(size=(2, 4000, 40))
    y = 0.6 * x + 0.8 * noise
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(x, y, strict=True)])
    low, high = fisher_interval(r, 40)
    assert ((low < 0.6) & (high > 0.6)).mean() == pytest.approx(0.95, abs=0.015)
