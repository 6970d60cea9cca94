import numpy as np
import pytest

from medsae_ray.core.analysis.feature_map import feature_map


def grouped(groups: int = 6, each: int = 25, dim: int = 40) -> tuple[np.ndarray, np.ndarray]:
    """Directions of any length around a few of their own."""
    rng = np.random.default_rng(0)
    group_M = np.repeat(np.arange(groups), each)
    direction_MD = rng.normal(size=(groups, dim))[group_M] + 0.4 * rng.normal(size=(groups * each, dim))
    return direction_MD * rng.gamma(1, 1, (groups * each, 1)), group_M


def test_features_of_like_direction_are_neighbours() -> None:
    direction_MD, group_M = grouped()
    xy_M2 = feature_map(direction_MD, 0)
    distance_MM = np.linalg.norm(xy_M2[:, None] - xy_M2, axis=2) + 9 * np.eye(len(xy_M2))
    assert (group_M[distance_MM.argmin(1)] == group_M).mean() > 0.98
    assert xy_M2.shape == (150, 2) and np.abs(xy_M2).max() == pytest.approx(1)


def test_the_same_directions_have_the_same_map() -> None:
    direction_MD, _ = grouped(3, 10)
    one = feature_map(direction_MD, 0)
    np.testing.assert_array_equal(one, feature_map(direction_MD, 0))
    np.testing.assert_allclose(one, feature_map(3 * direction_MD, 0), atol=1e-3)


@pytest.mark.parametrize("features", [1, 2, 4, 5, 7])
def test_few_features_have_a_place_each(features: int) -> None:
    xy_M2 = feature_map(np.random.default_rng(0).normal(size=(features, 3)), 0)
    assert xy_M2.shape == (features, 2) and np.isfinite(xy_M2).all()
    assert len(np.unique(xy_M2.round(6), axis=0)) == features


def test_a_dead_direction_has_a_place() -> None:
    direction_MD, _ = grouped(3, 10)
    direction_MD[4] = 0
    assert np.isfinite(feature_map(direction_MD, 0)).all()
