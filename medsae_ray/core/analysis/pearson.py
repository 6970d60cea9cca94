"""The interval and p-value of Pearson's r."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from medsae_ray.core.analysis.values import Floats


class Interval(NamedTuple):
    """A two-sided interval, with the shape of the bounded values."""

    low: Floats
    high: Floats


def fisher_interval(r: ArrayLike, n: ArrayLike, level: float = 0.95) -> Interval:
    """Return tanh(atanh r -+ z / sqrt(n - 3)) (Fisher 1921), `n` rows broadcast against `r`; NaN for NaN r or n < 4.

    It assumes independent rows. At |r| = 1 the formula gives an interval without width, as in SciPy.
    """
    r, n = np.asarray(r, dtype=np.float64), np.asarray(n, dtype=np.float64)
    se = 1.0 / np.sqrt(np.where(n >= 4, n, np.nan) - 3.0)
    with np.errstate(divide="ignore"):
        z, half = np.arctanh(r), special.ndtri(0.5 + level / 2) * se
    return Interval(np.tanh(z - half), np.tanh(z + half))


def pearson_p(r: ArrayLike, n: ArrayLike) -> Floats:
    """Return two-sided p of r = 0: t = r sqrt((n - 2) / (1 - r^2)), n - 2 degrees of freedom; NaN for NaN r, n < 3.

    Computed as the incomplete beta function I(1 - r^2; (n - 2) / 2, 1 / 2), which has no division by 1 - r^2.
    """
    r, n = np.asarray(r, dtype=np.float64), np.asarray(n, dtype=np.float64)
    degrees = np.where(n >= 3, n, np.nan) - 2.0
    return np.asarray(special.betainc(degrees / 2, 0.5, (1.0 - r) * (1.0 + r)))
