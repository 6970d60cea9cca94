"""Elastic-net logistic regression, the probe of SAIL, by L-BFGS-B.

    minimise  C sum_n s_n loss_n + RHO |w|_1 + (1 - RHO) / 2 |w|^2

`s_n` weights the classes alike, N / (2 N_class), and the intercept is free: scikit-learn's LogisticRegression with
penalty "elasticnet" and class_weight "balanced". With w = w+ - w- and both parts >= 0 the objective is smooth, and
the solver is that of "A limited memory algorithm for bound constrained optimization" (Byrd, Lu, Nocedal & Zhu 1995).
Columns are centred, which leaves w where it is, as the intercept is free, and makes it quick to reach; sparse columns
stay sparse.

Legend: N images, K columns (dimensions or features), S strengths of the penalty.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from medsae_ray.core.analysis.probes import Columns
from medsae_ray.core.analysis.values import Floats, UnitValues

RHO = 0.5
"""The share of the L1 norm in the penalty: scikit-learn's l1_ratio."""
STEPS = 5000
"""The most steps of L-BFGS-B."""
_TOLERANCE = 1e-10
"""The relative decrease of the objective at which a fit ends."""


class Linear(NamedTuple):
    """A fitted probe in the units of its columns: scores are x @ coefficient_K + intercept."""

    coefficient_K: Floats
    intercept: float

    def scores(self, x_NK: UnitValues) -> Floats:
        """Return the logits [N] of rows."""
        logit_N: Floats = x_NK @ self.coefficient_K + self.intercept
        return logit_N


def columns_of(x_NK: UnitValues, scaled: bool) -> Columns:
    """Return centred columns, divided by their deviation if `scaled`; a constant column has no effect either way."""
    columns = Columns.of(x_NK)
    return columns if scaled else replace(columns, scale_K=(columns.scale_K > 0).astype(np.float64))


def balanced(y_N: Floats) -> Floats:
    """Return the weights [N] that make both classes count alike, with a mean of 1. Both have to be there."""
    positives = np.count_nonzero(y_N == 1)
    return np.where(y_N == 1, len(y_N) / (2 * positives), len(y_N) / (2 * (len(y_N) - positives)))


def fit(columns: Columns, y_N: Floats, strength: float, start: Floats | None = None) -> Floats:
    """Return the weights [K + 1] of least objective, those of the columns as they are scaled, then the intercept.

    `start` are weights of an earlier fit. Deterministic; raises nothing for separable classes, as the penalty bounds w.
    """
    weight_N, width = strength * balanced(y_N), len(columns.mean_K)

    def objective(parts: Floats) -> tuple[float, Floats]:
        weights = _joined(parts, width)
        logit_N, w_K = columns.scores(weights), weights[:-1]
        slope = columns.gradient(weight_N * (special.expit(logit_N) - y_N)) + (1 - RHO) * np.append(w_K, 0.0)
        value = weight_N @ log_loss(logit_N, y_N) + RHO * parts[:-1].sum() + (1 - RHO) / 2 * (w_K @ w_K)
        return float(value), np.concatenate([RHO + slope[:-1], RHO - slope[:-1], slope[-1:]])

    begin = np.zeros(width + 1) if start is None else start
    parts = np.concatenate([np.maximum(begin[:-1], 0), np.maximum(-begin[:-1], 0), begin[-1:]])
    bounds = optimize.Bounds(np.append(np.zeros(2 * width), -np.inf), np.inf)
    options = {"maxiter": STEPS, "maxfun": 2 * STEPS, "maxcor": 20, "ftol": _TOLERANCE, "gtol": 1e-8}
    found = optimize.minimize(objective, parts, jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return _joined(found.x, width)


def _joined(parts: Floats, width: int) -> Floats:
    return np.append(parts[:width] - parts[width:-1], parts[-1])


def log_loss(logit_N: Floats, y_N: Floats) -> Floats:
    """Return the logistic loss [N] of each row."""
    return np.logaddexp(0, logit_N) - y_N * logit_N


def path(columns: Columns, y_N: Floats, strengths: Sequence[float]) -> Floats:
    """Return the weights [S, K + 1] at each strength, in their order; each fit starts from the one before."""
    found: list[Floats] = []
    for strength in strengths:
        found.append(fit(columns, y_N, strength, found[-1] if found else None))
    return np.stack(found)


def linear(columns: Columns, weights: Floats) -> Linear:
    """Return fitted weights in the units of the columns."""
    coefficient_K = weights[:-1] * columns.scale_K
    return Linear(coefficient_K, float(weights[-1] - columns.mean_K @ coefficient_K))


def judged(columns: Columns, weights_S: Floats, x_NK: UnitValues, y_N: Floats) -> Floats:
    """Return the balanced mean log loss [S] of fits on other rows, which have both classes."""
    other, weight_N = columns.of_rows(x_NK), balanced(y_N)
    return np.array([weight_N @ log_loss(other.scores(weights), y_N) / len(y_N) for weights in weights_S])
