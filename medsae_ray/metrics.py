"""Measures of a sparse autoencoder: arrays in, numbers out. Nothing here needs Ray, a recipe or an artifact."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from medsae_ray.core.analysis.values import unit_values
from medsae_ray.core.probing.elastic_net import columns_of, fit, linear
from medsae_ray.core.probing.shares import Recovery, Share, recovery
from medsae_ray.errors import ArtifactError

__all__ = ["LinearProbe", "Recovery", "Share", "probe", "recovery"]


class LinearProbe(NamedTuple):
    """A fitted probe. Its `scores` are (x / deviation) @ coefficients + intercept, without the division for SAIL's."""

    coefficients: np.ndarray
    """Of the columns, as they were fitted: after division by their deviation, or as they are for SAIL's."""
    intercept: float
    scores: np.ndarray
    """The logits of the test rows."""


def probe(
    x_fit: ArrayLike | sparse.sparray,
    y_fit: ArrayLike,
    x_test: ArrayLike | sparse.sparray,
    compat: Literal["sail"] | None = None,
) -> LinearProbe:
    """Fit SAIL's probe to labels 1 and 0, and apply it to other rows.

    It is a logistic regression with an elastic net (C = 1, half of it L1) and balanced classes. Columns, dense or
    sparse, are divided by their deviation over the fitting rows; `compat="sail"` takes them as they are. A constant
    column has coefficient 0; rows with a NaN label are left out. Raises ArtifactError if a class is missing, or if
    values are not finite or shapes do not fit.
    """
    if compat not in (None, "sail"):
        raise ArtifactError(f"compat is {compat!r}; it is None or 'sail'")
    x_NK, test_MK = (unit_values(sparse.csr_array(x) if sparse.issparse(x) else np.asarray(x)) for x in (x_fit, x_test))
    y_N = np.asarray(y_fit, dtype=np.float64)
    if y_N.shape != x_NK.shape[:1] or test_MK.shape[1] != x_NK.shape[1]:
        raise ArtifactError(f"{x_NK.shape} values, {y_N.shape} labels and {test_MK.shape} test values do not match")
    known = ~np.isnan(y_N)
    if set(np.unique(y_N[known])) != {0.0, 1.0}:
        raise ArtifactError(f"the labels are {np.unique(y_N[known])[:5]}; a probe needs both 0 and 1 and nothing else")
    columns = columns_of(x_NK[known], scaled=compat is None)
    weights = fit(columns, y_N[known], 1.0)
    found = linear(columns, weights)
    coefficients = np.where(columns.scale_K > 0, weights[:-1], 0.0)
    return LinearProbe(coefficients, found.intercept, found.scores(test_MK))
