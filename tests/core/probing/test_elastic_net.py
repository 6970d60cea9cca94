import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse, special
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.probing.elastic_net import RHO, balanced, columns_of, fit, linear, log_loss, path


def objective(x_NK: np.ndarray, y_N: np.ndarray, w_K: np.ndarray, intercept: float, strength: float) -> float:
    losses = strength * balanced(y_N) @ log_loss(x_NK @ w_K + intercept, y_N)
    return losses + RHO * np.abs(w_K).sum() + (1 - RHO) / 2 * w_K @ w_K


def problem(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Dense columns (even seeds) or sparse ones, some of them dead, and a class that may be rare."""
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(200, 400)), int(rng.integers(5, 120))
    x_NK = rng.normal(rng.normal(size=k), rng.uniform(0.3, 3, k), (n, k))
    if seed % 2:
        x_NK = np.abs(x_NK) * (rng.random((n, k)) < rng.uniform(0.08, 0.4, k))
        x_NK[:, 0] = 0
    logit = (x_NK - x_NK.mean(axis=0)) @ (rng.normal(size=k) * (rng.random(k) < 0.2))
    rare = [0.5, 0.2, 0.06][seed % 3]
    return x_NK, (rng.random(n) < special.expit(logit - np.quantile(logit, 1 - rare))).astype(float)


@pytest.mark.parametrize("seed", range(20))
def test_objective_and_scores_are_those_of_scikit_learn(seed: int) -> None:
    x_NK, y_N = problem(seed)
    strength = [1.0, 0.1][seed % 2]
    half = np.arange(len(y_N)) % 2 == 0
    columns = columns_of(sparse.csr_array(x_NK[half]) if seed % 2 else x_NK[half], scaled=True)
    weights = fit(columns, y_N[half], strength)
    scaled_NK = x_NK * columns.scale_K  # centred for saga alone, which is slow otherwise
    centred_NK = scaled_NK - scaled_NK[half].mean(axis=0)
    options = {"C": strength, "l1_ratio": RHO, "solver": "saga", "class_weight": "balanced", "random_state": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scikit-learn deprecates the name of its penalty
        warnings.simplefilter("error", ConvergenceWarning)
        other = LogisticRegression(penalty="elasticnet", max_iter=50_000, tol=1e-6, **options)
        other.fit(centred_NK[half], y_N[half])
    ours, theirs = (
        objective(centred_NK[half], y_N[half], w_K, b, strength)
        for w_K, b in ((weights[:-1], weights[-1]), (other.coef_[0], other.intercept_[0]))
    )
    assert ours == pytest.approx(theirs, rel=1e-4) and ours < theirs * (1 + 1e-6)
    found, wanted = (
        auroc(scores[~half], y_N[~half]).auc
        for scores in (linear(columns, weights).scores(x_NK), other.decision_function(centred_NK))
    )
    assert found == pytest.approx(wanted, abs=1e-3)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.sampled_from([0.01, 1.0]))
def test_no_step_from_the_weights_lowers_the_objective(seed: int, scaled: bool, strength: float) -> None:
    x_NK, y_N = problem(seed)
    columns = columns_of(x_NK, scaled)
    weights = fit(columns, y_N, strength)
    slope = columns.gradient(strength * balanced(y_N) * (special.expit(columns.scores(weights)) - y_N))
    slope_K = slope[:-1] + (1 - RHO) * weights[:-1]
    gap_K = np.where(weights[:-1] != 0, slope_K + RHO * np.sign(weights[:-1]), np.maximum(np.abs(slope_K) - RHO, 0))
    # the penalty's curvature, 1 - RHO, bounds how far above its minimum a convex objective with this slope can lie
    value = objective(x_NK * columns.scale_K, y_N, weights[:-1], linear(columns, weights).intercept, strength)
    assert gap_K @ gap_K / (2 * (1 - RHO)) < 1e-4 * value and abs(slope[-1]) < 1e-2


def test_sparse_and_dense_columns_give_one_fit_from_any_start() -> None:
    x_NK, y_N = problem(1)
    dense, thin = columns_of(x_NK, True), columns_of(sparse.csr_array(x_NK), True)
    weights = fit(dense, y_N, 1.0)
    np.testing.assert_allclose(fit(thin, y_N, 1.0), weights, atol=1e-3)
    np.testing.assert_allclose(
        fit(dense, y_N, 1.0, np.random.default_rng(0).normal(size=len(weights))), weights, atol=1e-3
    )
    assert weights[0] == 0, "a column that does not vary has no weight"


def test_a_stronger_penalty_keeps_fewer_columns() -> None:
    x_NK, y_N = problem(0)
    kept = [np.count_nonzero(weights[:-1]) for weights in path(columns_of(x_NK, True), y_N, (0.001, 0.01, 0.1, 1.0))]
    assert kept == sorted(kept) and kept[0] < kept[-1]


def test_classes_that_a_plane_separates_have_finite_weights() -> None:
    y_N = np.repeat([0.0, 1.0], 20)
    weights = fit(columns_of(y_N[:, None] * 5, True), y_N, 1.0)
    assert 1 < weights[0] < 10
