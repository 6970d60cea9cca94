"""Checks of unit values and labels at the entrance of the analysis.

Legend: N images, F units (SAE features or raw encoder dimensions), L labels.
Unit values x_NF come dense (ndarray) or sparse (csr_array, zeros implicit); labels y_NL are float64, NaN = unknown.
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medsae_ray.errors import ArtifactError

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]
UnitValues: TypeAlias = np.ndarray | sparse.csr_array


def unit_values(x_NF: UnitValues) -> UnitValues:
    """Return `x_NF` in float64, as csr_array without explicit zeros if sparse. Raises ArtifactError if not finite."""
    if sparse.issparse(x_NF):
        x_NF = sparse.csr_array(x_NF, dtype=np.float64, copy=True)
        x_NF.sum_duplicates()
        x_NF.eliminate_zeros()
        values = x_NF.data
    else:
        x_NF = values = np.asarray(x_NF, dtype=np.float64)
    if x_NF.ndim != 2:
        raise ArtifactError(f"unit values have shape {x_NF.shape}, [images, units] is needed")
    if not np.isfinite(values).all():
        raise ArtifactError(f"{(~np.isfinite(values)).sum()} unit values are NaN or infinite; leave out rows not ok")
    return x_NF


def label_values(y_NL: np.ndarray, n_images: int) -> Floats:
    """Return `y_NL` in float64. Raises ArtifactError if it has other rows than the units, or an infinite value."""
    y_NL = np.asarray(y_NL, dtype=np.float64)
    if y_NL.ndim != 2 or len(y_NL) != n_images:
        raise ArtifactError(f"labels have shape {y_NL.shape}, [{n_images}, labels] is needed to match the unit values")
    if np.isinf(y_NL).any():
        raise ArtifactError("a label is infinite; use NaN for an unknown label")
    return y_NL
