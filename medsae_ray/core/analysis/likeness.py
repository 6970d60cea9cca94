"""How far an image's embedding lies from those of a run, and whether a new patient's image would.

Embeddings of the patients that the SAE was trained on give the estimator, those of others the distances to compare
with. Every patient counts once there, his images share the weight: for an image of a new patient the chance to exceed
the threshold is then at most 1 - level, whatever the distribution.

Legend: N images, R reference images, D embedding dimension.

Sun, Ming, Zhu & Li (2022), "Out-of-distribution detection with deep nearest neighbors", for the distance, here among
whitened embeddings.
Lee, Barber & Willett (2023), "Distribution-free inference with hierarchical data", for the threshold.
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import NDArray
from safetensors import numpy as tensors
from scipy import special
from scipy.linalg import cholesky, solve_triangular

from medsae_ray.core.analysis.auroc import wilson_interval
from medsae_ray.core.analysis.scatter import Scatter
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.likeness import LikenessMetrics, UnlikeShare, UnlikeTheRun
from medsae_ray.core.artifacts.metrics import metrics_of

NEIGHBOUR = 10
"""The neighbour whose distance counts, or the last of fewer."""
PIECE = 1024
"""The most images that are compared at once."""


@dataclass(frozen=True)
class Estimator:
    """The whitening of the run's embeddings, and some of them to compare others with."""

    mean_D: Floats
    whiten_DD: Floats
    """The lower triangular W with W C W^T = I for the covariance C."""
    near_RD: NDArray[np.float32]
    """Whitened embeddings of the run."""

    @classmethod
    def of(cls, scatter: Scatter, x_RD: np.ndarray) -> Self | None:
        """Fit it to the scatter of embeddings, of which `x_RD` are some. None if they do not vary."""
        covariance_DD = scatter.covariance().matrix_DD
        scale = float(np.square(scatter.mean_KD).max(initial=0.0))
        if not covariance_DD.trace() > 1e-12 * scale:  # what rounding leaves of equal rows
            return None
        factor_DD = cholesky(covariance_DD, lower=True)
        whiten_DD: Floats = solve_triangular(factor_DD, np.eye(len(factor_DD)), lower=True)
        mean_D: Floats = scatter.count_K @ scatter.mean_KD / scatter.count_K.sum()
        return cls(mean_D, whiten_DD, ((x_RD - mean_D) @ whiten_DD.T).astype(np.float32))

    def distances(self, x_ND: np.ndarray) -> Floats:
        """Return the whitened distance of each embedding from its tenth nearest reference."""
        pieces = [x_ND[start : start + PIECE] for start in range(0, len(x_ND), PIECE)]
        return np.concatenate([np.empty(0), *map(self._piece, pieces)])

    @cached_property
    def _exact_RD(self) -> Floats:
        return self.near_RD.astype(np.float64)

    @cached_property
    def _square_R(self) -> Floats:
        found_R: Floats = np.square(self._exact_RD).sum(1)
        return found_R

    def _piece(self, x_ND: np.ndarray) -> Floats:
        z_ND, near_RD = (x_ND - self.mean_D) @ self.whiten_DD.T, self._exact_RD
        square_NR = np.square(z_ND).sum(1)[:, None] + self._square_R - 2 * z_ND @ near_RD.T
        place = min(NEIGHBOUR, len(near_RD)) - 1
        found_N: Floats = np.sqrt(np.maximum(np.partition(square_NR, place, axis=1)[:, place], 0.0))
        return found_N


@dataclass(frozen=True)
class Reference:
    """The distances of images whose patients had no part in the estimator."""

    distance_N: Floats
    """The distances, ascending."""
    share_N: Floats
    """The share of patients up to each of them, from above 0 to 1."""
    patients: int

    @classmethod
    def of(cls, distance_N: Floats, patient_N: np.ndarray) -> Self:
        """Order the distances of some images and their patients."""
        _, number_N, images = np.unique(patient_N.astype(str), return_inverse=True, return_counts=True)
        order_N = np.argsort(distance_N, kind="stable")
        weight_N = 1 / (images[number_N[order_N]] * max(len(images), 1))
        return cls(distance_N[order_N], np.cumsum(weight_N), len(images))

    def threshold(self, level: float) -> float | None:
        """Return the distance that a new patient's image exceeds with a chance of at most 1 - level; None if there are
        too few patients for that: fewer than level / (1 - level)."""
        wanted = level * (self.patients + 1) / max(self.patients, 1)
        place = int(np.searchsorted(self.share_N, wanted - 1e-9))
        return float(self.distance_N[place]) if place < len(self.distance_N) and wanted <= 1 + 1e-9 else None

    def percentile(self, distance: float) -> float:
        """Return the share of patients whose images are nearer, from 0 to 100."""
        place = int(np.searchsorted(self.distance_N, distance, side="left"))
        return 100 * min(float(self.share_N[place - 1]), 1.0) if place else 0.0

    def judged(self, distance: float, level: float) -> UnlikeTheRun:
        """Return the place of an image at this distance."""
        threshold = self.threshold(level)
        flag = None if threshold is None else distance > threshold
        return UnlikeTheRun(flag=flag, distance=distance, percentile=self.percentile(distance), threshold=threshold)


class Judge:
    """The judgement of images by a finished artifact of stage `likeness`."""

    def __init__(self, artifact: Artifact) -> None:
        """Read the estimator. ArtifactError if its file is damaged."""
        self._artifact, self.level = artifact, metrics_of(artifact, LikenessMetrics)["level"]
        fitted = any(receipt.shard < 0 for receipt in artifact.record.files)
        self._fitted = from_file(artifact.file("estimator")) if fitted else None

    @property
    def threshold(self) -> float | None:
        """The distance above which an image is flagged."""
        return self._fitted[1].threshold(self.level) if self._fitted else None

    def of_embedding(self, x_D: np.ndarray) -> UnlikeTheRun | None:
        """Judge an image by its embedding; None if those of the run do not vary."""
        if self._fitted is None:
            return None
        estimator, reference = self._fitted
        return reference.judged(float(estimator.distances(x_D[None])[0]), self.level)

    def of_row(self, row: int) -> UnlikeTheRun | None:
        """Judge an image of the run, by its row in the manifest; None also if it has no embedding."""
        distance = self._artifact.table(["distance"])["distance"][row].as_py()
        return None if distance is None or self._fitted is None else self._fitted[1].judged(distance, self.level)


def unlike_share(distance_N: np.ndarray, patient_N: np.ndarray, threshold: float | None, level: float) -> UnlikeShare:
    """Return the share of images beyond the threshold; every patient counts once."""
    patients, number_N, images = np.unique(patient_N.astype(str), return_inverse=True, return_counts=True)
    if threshold is None or not len(patients):
        return UnlikeShare(patients=len(patients), share=None, low=None, high=None)
    share = float(((distance_N > threshold) / images[number_N]).sum() / len(patients))
    low, high = wilson_interval(share, len(patients), float(special.ndtri(0.5 + level / 2)))
    return UnlikeShare(patients=len(patients), share=share, low=low, high=high)


def to_file(estimator: Estimator, reference: Reference) -> bytes:
    """Return both as a safetensors file."""
    arrays = {field.name: np.asarray(getattr(of, field.name)) for of in (estimator, reference) for field in fields(of)}
    return bytes(tensors.save({name: np.atleast_1d(np.ascontiguousarray(array)) for name, array in arrays.items()}))


def from_file(data: bytes) -> tuple[Estimator, Reference]:
    """Invert `to_file`."""
    found = tensors.load(data)
    estimator = Estimator(found["mean_D"], found["whiten_DD"], found["near_RD"])
    return estimator, Reference(found["distance_N"], found["share_N"], int(found["patients"][0]))
