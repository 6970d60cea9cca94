"""The paired comparison of two areas against its definition, and against how often it errs."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.paired import components, paired_p

Y = np.repeat([1.0, 0.0], [40, 60])


def scores(rng: np.random.Generator, shift: float, shared: np.ndarray, own: float = 1.0) -> np.ndarray:
    return shift * Y + shared + rng.normal(0, own, len(Y))


@pytest.mark.parametrize("levels", [3, 10**6])
def test_components_average_to_the_area_and_count_ties_half(levels: int) -> None:
    x = np.round(np.random.default_rng(0).random(100) * levels)
    above = (x[Y == 1][:, None] > x[Y == 0]) + 0.5 * (x[Y == 1][:, None] == x[Y == 0])
    positive, negative = components(x, Y)
    np.testing.assert_allclose(positive, above.mean(1))
    np.testing.assert_allclose(negative, above.mean(0))
    assert positive.mean() == pytest.approx(roc_auc_score(Y, x)) == pytest.approx(auroc(x, Y).auc)


def test_it_errs_as_often_as_it_says_and_pairing_finds_more() -> None:
    rng, null, found, apart = np.random.default_rng(1), [], [], []
    for _ in range(600):
        shared = rng.normal(0, 1.5, len(Y))
        null.append(paired_p(scores(rng, 1.5, shared), scores(rng, 1.5, shared), Y))
        a, b = scores(rng, 2.0, shared, 0.5), scores(rng, 1.0, shared, 0.5)
        found.append(paired_p(a, b, Y))
        apart.append(auroc(a, Y).low > auroc(b, Y).high)
    assert 0.025 < np.mean(np.array(null) < 0.05) < 0.08
    assert np.mean(np.array(found) < 0.05) > 0.9 > np.mean(apart)


def test_a_score_that_points_the_wrong_way_counts_as_its_opposite() -> None:
    rng = np.random.default_rng(2)
    a, b = scores(rng, 1.5, np.zeros(100)), scores(rng, 1.2, np.zeros(100))
    assert paired_p(a, -b, Y) == pytest.approx(paired_p(a, b, Y))
    assert paired_p(b, -a, Y) > 0.5


def test_what_does_not_vary_is_decided_by_the_areas() -> None:
    assert paired_p(Y, np.zeros(100), Y) == 0 and paired_p(Y, Y, Y) == 1 and paired_p(np.zeros(100), Y, Y) == 1
    assert np.isnan(paired_p([0.1, 0.2], [0.1, 0.2], [1, 1]))
