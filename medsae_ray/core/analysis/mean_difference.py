"""The difference of class means as a detector of a label: the simplest direction in an encoder's space.

The score of an image is its embedding along mean(x | label) - mean(x | no label). AxBench (Wu et al. 2025, arXiv
2501.17148, "DiffMean") finds that it detects concepts better than features of SAEs do, so no feature should be believed
to be needed for a label without it. The means are of discovery patients, the AUROC is of test patients, one image each.

Legend: N images, D dimensions.
"""

import numpy as np

from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.probes import Probed
from medsae_ray.core.analysis.values import Floats


def mean_difference(x_ND: np.ndarray, y_N: Floats, role_N: np.ndarray, level: float) -> Probed:
    """Take the means and test their difference. `role_N`: 2 is a test image, all others are discovery; NaN labels are
    left out. Without a class among the discovery images all is NaN."""
    known_N = ~np.isnan(y_N)
    learn, test = known_N & (role_N < 2), known_N & (role_N == 2)
    with_N, without_N = learn & (y_N == 1), learn & (y_N == 0)
    if not (with_N.any() and without_N.any()):
        none = auroc(np.zeros(int(test.sum())), y_N[test], level)._replace(auc=np.nan, low=np.nan, high=np.nan)
        return Probed(none, None, 0)
    direction_D = x_ND[with_N].mean(axis=0, dtype=np.float64) - x_ND[without_N].mean(axis=0, dtype=np.float64)
    return Probed(auroc(x_ND[test].astype(np.float64) @ direction_D, y_N[test], level), None, int(learn.sum()))
