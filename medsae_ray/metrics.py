"""Measures of features as plain functions: arrays in, numbers out, without a run and without Ray.

Legend: N images, F features (or any units, as raw dimensions), L labels, D embedding dimension.
"""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

from medsae_ray.core.analysis.entropy import label_entropy
from medsae_ray.core.analysis.values import Floats, UnitValues, unit_values
from medsae_ray.core.monosemanticity import coherence
from medsae_ray.core.monosemanticity.similarity import PairSums
from medsae_ray.core.monosemanticity.strongest import Strongest
from medsae_ray.core.probing.elastic_net import columns_of, fit, linear
from medsae_ray.core.probing.shares import Recovery, Share, recovery
from medsae_ray.core.retrieval.neighbours import Neighbours, neighbours
from medsae_ray.errors import ArtifactError

__all__ = [
    "CoherenceSpecificity",
    "LinearProbe",
    "Neighbours",
    "Recovery",
    "Share",
    "coherence_specificity",
    "label_entropy",
    "monosemanticity_score",
    "neighbours",
    "probe",
    "recovery",
]


class CoherenceSpecificity(NamedTuple):
    """What `coherence_specificity` returns; SAIL's score is `np.maximum(0, c_F - null) * s_F`."""

    c_F: Floats
    """The coherence, 0 to 1."""
    s_F: Floats
    """The specificity, 0 to 1."""
    null: float
    """The coherence to be expected of random images."""


def coherence_specificity(
    z_NF: UnitValues, y_NL: np.ndarray, group_N: np.ndarray, top: int = 10
) -> CoherenceSpecificity:
    """Return how alike and how narrow the labels are of the images that activate each feature most, as SAIL does.

    Of every feature the `top` images with the largest activation above 0 count, one of each group (patient, volume);
    of equal ones the earlier row. C is the mean Jaccard index of their labels over all pairs, where two images without
    any label are equal. S is 1 - H / ln L, with H the entropy of the labels' shares among all labels of these images,
    and 0 if they have none. `null` is the mean Jaccard index over all pairs of the rows: what the random subsets of
    SAIL estimate.

    `z_NF` is dense or sparse (scipy); `y_NL` holds 1, 0 or NaN for unknown. A row of which no label is known is left
    out, and a pair is compared by the labels that are known of both. C and S are NaN for a feature with fewer than
    `top` groups, or one that is equal on all rows; all is NaN with fewer than two labels. Raises ArtifactError for
    shapes that do not match, activations that are not finite, and other labels.

    Source: SAIL (github.com/pwesp/sail), `src/monosemanticity.py`; C and S agree with it to 1e-12.
    """
    if top < 2:
        raise ArtifactError(f"top is {top}; a coherence needs pairs of images, so 2 or more")
    z_NF, group_N = unit_values(z_NF), np.asarray(group_N)
    y_NL = coherence.checked_labels(y_NL, z_NF.shape[0])
    if group_N.shape != (len(y_NL),):
        raise ArtifactError(f"groups of shape {group_N.shape} were given for {len(y_NL)} rows, each needs one")
    rows = np.flatnonzero(coherence.judged(y_NL))
    group_N = np.unique(group_N, return_inverse=True)[1]
    found = Strongest.of(z_NF[rows], rows, group_N[rows], top)
    c_F, s_F = coherence.coherence_specificity(y_NL, found.rows(), coherence.label_count(y_NL))
    return CoherenceSpecificity(c_F, s_F, coherence.mean_of_all_pairs(y_NL))


def monosemanticity_score(z_NF: UnitValues, e_ND: np.ndarray) -> Floats:
    """Return the Monosemanticity Score [F] of Pach et al. 2025 (arXiv 2504.02821), a cosine from -1 to 1.

    It is the mean cosine of the images' embeddings `e_ND` over all pairs, weighted by the product of their
    activations, which are scaled to 0 for the feature's smallest and 1 for its largest. Exact, in the time of one
    product [F, N] x [N, D]. `z_NF` is dense or sparse (scipy), the embeddings are those of any encoder. An image whose
    embedding is not finite, or 0, is left out. NaN for a feature that is equal on all images or active on one only.

    If embeddings and activations are unrelated, each feature's expectation is the mean cosine of all pairs:
    `((e.sum(0) ** 2).sum() - N) / (N * (N - 1))` with rows e of length 1. Raises ArtifactError for shapes that do not
    match and activations that are not finite.
    """
    return PairSums.of(z_NF, e_ND).similarity().ms_F


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
