import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from medsae_ray.core.analysis.mean_difference import mean_difference


def made() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    y_N = (rng.random(400) < 0.4).astype(float)
    y_N[rng.random(400) < 0.1] = np.nan
    x_ND = rng.normal(2, 1, (400, 10)) + 0.4 * np.nan_to_num(y_N)[:, None]
    return x_ND.astype(np.float32), y_N, rng.choice(3, 400, p=[0.4, 0.2, 0.4])


def test_means_are_of_discovery_and_the_figure_is_of_the_test() -> None:
    x_ND, y_N, role_N = made()
    found, test = mean_difference(x_ND, y_N, role_N, 0.95), (role_N == 2) & ~np.isnan(y_N)
    learn = (role_N < 2) & ~np.isnan(y_N)
    w_D = x_ND[learn & (y_N == 1)].mean(axis=0) - x_ND[learn & (y_N == 0)].mean(axis=0)
    assert found.area.auc == pytest.approx(roc_auc_score(y_N[test], x_ND[test] @ w_D), abs=1e-4)
    assert found.area.low < found.area.auc < found.area.high and found.area.auc > 0.75
    assert (found.patients, found.strength) == (learn.sum(), None)
    turned = mean_difference(x_ND, np.where(role_N == 2, 1 - y_N, y_N), role_N, 0.95)
    assert turned.area.auc == pytest.approx(1 - found.area.auc)


def test_without_a_class_there_is_no_figure() -> None:
    x_ND, y_N, role_N = made()
    for hidden in (np.where(role_N < 2, 0.0, y_N), np.where(role_N == 2, 0.0, y_N), np.full(400, np.nan)):
        assert np.isnan(mean_difference(x_ND, hidden, role_N, 0.95).area.auc)
