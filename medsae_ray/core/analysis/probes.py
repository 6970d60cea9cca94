"""Linear probes of each label on all dimensions of the encoder, and on all features of the SAE.

A single unit may predict a label poorly that the encoder as a whole predicts well. The probe is a logistic regression
with an L2 penalty on standardised columns, as in "Understanding intermediate layers using linear classifier probes"
(Alain & Bengio 2016): fitted on discovery patients, one image each, measured on test patients, one image each. The
strength of the penalty is one of `STRENGTHS`, chosen without the test: fitted on patients that trained the SAE, judged
by the log loss on the other discovery patients; then all discovery patients are fitted once more. Without both classes
among these it is `USUAL`.

Legend: N images, K columns (dimensions or features), L labels, G images of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from scipy import optimize, sparse, special

from medsae_ray.core.analysis.auroc import Auroc, auroc
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.analysis.values import Bools, Floats, UnitValues
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix
from medsae_ray.core.artifacts.layout import embedding_matrix
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.datasets.splits import uniform_hash

MOST = 20_000
"""The most discovery patients in a fit, and the most test patients measured: drawn by their hash."""
STRENGTHS = (0.0001, 0.001, 0.01, 0.1, 1.0)
"""The strengths of the penalty: C of scikit-learn's LogisticRegression, the weight of the log loss to |w|^2 / 2."""
USUAL = 0.01
FEWEST = 5
"""The images of each class that a fit and a choice of strength need."""
STEPS = 200
"""The most steps of L-BFGS."""


class ProbeRows(NamedTuple):
    """The rows of one group of shards, or of all."""

    row_n: np.ndarray
    raw_nD: np.ndarray
    sae_nF: sparse.csr_array


class Probed(NamedTuple):
    """The probe of one label on one kind of column."""

    area: Auroc
    strength: float | None
    """The chosen C; None without a probe, if a class is missing."""
    patients: int
    """The number of patients in the fit."""


@dataclass(frozen=True)
class ProbeWork:
    """The contribution of a group of shards: its rows for fits and measurements."""

    embeddings: Artifact
    activations: Artifact
    shard_N: np.ndarray
    chosen_N: Bools
    width: int

    def groups(self) -> list[list[int]]:
        """Split the shards into groups of the same size as for the features' statistics."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def compute(self, shards: Sequence[int]) -> ProbeRows:
        """Read the chosen rows of a group."""
        found = [self._shard(shard) for shard in shards]
        rows, raw, sae = zip(*found, strict=True)
        return ProbeRows(np.concatenate(rows), np.concatenate(raw), sparse.vstack(sae, format="csr"))

    def _shard(self, shard: int) -> ProbeRows:
        rows = np.flatnonzero(self.shard_N == shard)
        kept = self.chosen_N[rows]
        values, ok = embedding_matrix(self.embeddings.part(shard))
        activations = self.activations.part(shard, ["feature", "value"]).filter(pa.array(kept))
        return ProbeRows(rows[kept], values[kept[ok]], activation_matrix(activations, self.width))


def gathered(samples: Sequence[ProbeRows]) -> ProbeRows:
    """Join the rows of all groups, in manifest order."""
    rows, raw, sae = zip(*samples, strict=True)
    return ProbeRows(np.concatenate(rows), np.concatenate(raw), sparse.vstack(sae, format="csr"))


def probe_rows(labels: Labels) -> Bools:
    """Return [N], True for images to fit or measure: one of each patient, at most `MOST` for either."""
    return _at_most(labels.discovery_one_N, labels.patient_N) | _at_most(labels.test_N, labels.patient_N)


def _at_most(chosen_N: Bools, patient_N: np.ndarray) -> Bools:
    rows = np.flatnonzero(chosen_N)
    if len(rows) <= MOST:
        return chosen_N
    drawn = np.array([uniform_hash("probe", str(patient)) for patient in patient_N[rows]])
    found_N = np.zeros_like(chosen_N)
    found_N[rows[np.argsort(drawn, kind="stable")[:MOST]]] = True
    return found_N


def probe(x_NK: UnitValues, y_N: Floats, role_N: np.ndarray, level: float) -> Probed:
    """Fit and test a label's probe. `role_N`: 0 trained the SAE, 1 other discovery, 2 test; NaN labels are left out.

    Deterministic, and bounded: at most `MOST` rows, a few fits of at most `STEPS` steps each.
    """
    known_N = ~np.isnan(y_N)
    learn, test = np.flatnonzero(known_N & (role_N < 2)), np.flatnonzero(known_N & (role_N == 2))
    if not _fits(y_N[learn], 1):
        return Probed(
            auroc(np.zeros(len(test)), y_N[test], level)._replace(auc=np.nan, low=np.nan, high=np.nan), None, 0
        )
    strength = _chosen(x_NK, y_N, np.flatnonzero(known_N & (role_N == 0)), np.flatnonzero(known_N & (role_N == 1)))
    columns = Columns.of(x_NK[learn])
    weights = fit(columns, y_N[learn], strength)
    return Probed(auroc(columns.of_rows(x_NK[test]).scores(weights), y_N[test], level), strength, len(learn))


def _fits(y_N: Floats, least: int) -> bool:
    return bool(min(np.count_nonzero(y_N == 1), np.count_nonzero(y_N == 0)) >= least)


def _chosen(x_NK: UnitValues, y_N: Floats, one: np.ndarray, other: np.ndarray) -> float:
    """Return the strength of least log loss on `other` after fits on `one`, each started from the last weights."""
    if not (_fits(y_N[one], FEWEST) and _fits(y_N[other], FEWEST)):
        return USUAL
    columns, weights, losses = Columns.of(x_NK[one]), None, []
    judged = columns.of_rows(x_NK[other])
    for strength in STRENGTHS:
        weights = fit(columns, y_N[one], strength, weights)
        losses.append(float(_loss(judged.scores(weights), y_N[other]).mean()))
    return STRENGTHS[int(np.argmin(losses))]


@dataclass(frozen=True)
class Columns:
    """The standardised columns. Sparse ones stay sparse: the mean is subtracted after the product."""

    x_NK: UnitValues
    """The unstandardised values as float64."""
    mean_K: Floats
    scale_K: Floats
    """The reciprocal standard deviation; 0 for a constant column."""

    @classmethod
    def of(cls, x_NK: UnitValues) -> Self:
        """Standardise by the columns' own mean and standard deviation; a constant column gets scale 0 and so has no
        effect."""
        x_NK = x_NK.astype(np.float64)
        if sparse.issparse(x_NK):
            x_NK = sparse.csr_array(x_NK)
            mean_K = np.asarray(x_NK.mean(axis=0)).ravel()
            square_K = np.asarray(x_NK.multiply(x_NK).mean(axis=0)).ravel()
            variance_K = square_K - mean_K**2
        else:
            mean_K, variance_K = x_NK.mean(axis=0), x_NK.var(axis=0)
        varies_K = variance_K > 1e-12 * mean_K**2
        return cls(x_NK, mean_K, np.where(varies_K, 1 / np.sqrt(np.where(varies_K, variance_K, 1)), 0.0))

    def of_rows(self, x_NK: UnitValues) -> "Columns":
        """Put other rows on the same scale."""
        return Columns(x_NK.astype(np.float64), self.mean_K, self.scale_K)

    def scores(self, weights: Floats) -> Floats:
        """Compute logits [N]; `weights` are those of the columns, then the intercept."""
        scaled_K = weights[:-1] * self.scale_K
        logits_N: Floats = self.x_NK @ scaled_K - self.mean_K @ scaled_K + weights[-1]
        return logits_N

    def gradient(self, slope_N: Floats) -> Floats:
        """Compute the gradient [K + 1] of a sum of losses, given each row's slope by its logit."""
        total = slope_N.sum()
        return np.append((self.x_NK.T @ slope_N - self.mean_K * total) * self.scale_K, total)


def fit(columns: Columns, y_N: Floats, strength: float, start: Floats | None = None) -> Floats:
    """Return the weights [K + 1] that minimise strength * summed log loss + |w|^2 / 2, the intercept free."""

    def objective(weights: Floats) -> tuple[float, Floats]:
        logit_N, w_K = columns.scores(weights), weights[:-1]
        gradient = strength * columns.gradient(special.expit(logit_N) - y_N) + np.append(w_K, 0.0)
        return float(strength * _loss(logit_N, y_N).sum() + w_K @ w_K / 2), gradient

    begin = np.zeros(len(columns.mean_K) + 1) if start is None else start
    found = optimize.minimize(objective, begin, jac=True, method="L-BFGS-B", options={"maxiter": STEPS, "maxcor": 20})
    return np.asarray(found.x)


def _loss(logit_N: Floats, y_N: Floats) -> Floats:
    return np.logaddexp(0, logit_N) - y_N * logit_N
