import numpy as np
import pytest
from scipy import stats

from medsae_ray.core.analysis.percentiles import percentile
from medsae_ray.core.analysis.units import UnitStats


def stored(values: np.ndarray) -> tuple[list[int], float]:
    """What the run keeps of one feature's activations."""
    ids = [f"i{row}" for row in range(len(values))]
    found = UnitStats.of(values[:, None], ids, ids)
    return found.histogram_FB[0].tolist(), float(values.max())


@pytest.mark.parametrize("scale", [0.01, 1.0])
def test_it_is_within_a_few_points_of_the_exact_one(scale: float) -> None:
    values = np.random.default_rng(0).gamma(2, scale, 5000)
    histogram, largest = stored(values)
    asked = values[::50]
    exact = [stats.percentileofscore(values, value, kind="strict") for value in asked]
    assert np.abs([percentile(histogram, largest, v) for v in asked] - np.array(exact)).max() < 4


def test_it_rises_with_the_activation_and_ends_at_the_largest() -> None:
    histogram, largest = stored(np.random.default_rng(1).gamma(3, 9, 400))  # most lie above the histogram's range
    found = [percentile(histogram, largest, value) for value in np.linspace(1e-6, 2 * largest, 300)]
    assert found == sorted(found) and found[0] < 1 and found[-1] == percentile(histogram, largest, largest) == 100


def test_a_feature_that_was_never_active_has_no_share() -> None:
    assert percentile([0] * 32, float("-inf"), 3.0) == 0 and percentile([0] * 31 + [5], 20.0, 0.0) == 0


def test_one_value_is_below_what_is_larger() -> None:
    histogram, largest = stored(np.array([2.0, 2.0]))
    assert percentile(histogram, largest, 1.9) < 100 == percentile(histogram, largest, 2.0)
