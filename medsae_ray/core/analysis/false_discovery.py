"""Benjamini & Hochberg (1995), "Controlling the false discovery rate"."""

import numpy as np
from scipy import stats

from medsae_ray.core.analysis.values import Floats


def benjamini_hochberg(p: Floats) -> Floats:
    """q-values of the defined p-values, over all of them; NaN stays NaN."""
    q, defined = np.full(p.shape, np.nan), ~np.isnan(p)
    if defined.any():
        q[defined] = stats.false_discovery_control(p[defined])
    return q
