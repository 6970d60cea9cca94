"""The images that features are named or tested on, and what sampling needs to know of them.

Legend: N images, F features, D embedding dimensions, A images on which one feature is active, C images to choose from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats, Ints
from medsae_ray.core.datasets.splits import uniform_hash
from medsae_ray.core.naming.metadata import Columns, strata
from medsae_ray.errors import ArtifactError

SUFFICIENT, INSUFFICIENT = "ok", "insufficient_support"


class ActiveRows(NamedTuple):
    """Where one feature is not 0: places among the candidates, ascending, and values."""

    place_A: Ints
    value_A: Floats


class ImageSample(NamedTuple):
    """Images chosen for one feature, each of another patient; none if the support is insufficient."""

    feature: int
    status: str
    """SUFFICIENT or INSUFFICIENT."""
    row_n: Ints
    """Row numbers in the manifest."""
    role_n: list[str]
    value_n: Floats
    """Activations: 0 exactly on the negatives or contrasts."""
    active: int
    """Patients with an image on which the feature is active and not faint."""
    inactive: int
    """Patients, of those that are not positives here, with an image on which it is 0."""
    unmatched: int = 0
    """Negatives that were to be matched but are equal in strength only, for want of a match."""
    faint: int = 0
    """Patients with an active image, but none on which the feature is strong enough to count."""

    @property
    def y_n(self) -> Floats:
        """1 for positives, 0 for negatives."""
        return (self.value_n > 0).astype(np.float64)


def unsupported(feature: int, active: int, inactive: int, faint: int = 0) -> ImageSample:
    """Return the sample of a feature with too few images to be named or tested: no images, only their counts."""
    return ImageSample(feature, INSUFFICIENT, np.zeros(0, np.int64), [], np.zeros(0), active, inactive, faint=faint)


@dataclass(frozen=True)
class Candidates:
    """Readable images of the patients of one role, sorted by image id: no result depends on the order they came in.

    All fields are numeric arrays, so that workers can share one copy.
    """

    row_N: Ints
    """Row numbers in the manifest."""
    patient_N: Ints
    order_N: Ints
    """Position of each image in one random order that all features share; the first are the pool."""
    stratum_N: Ints | None
    """Images with equal metadata have equal numbers; None without metadata."""
    e_ND: np.ndarray
    """float32 embeddings, centred (distances are the same, rounding is less)."""
    sq_N: np.ndarray
    """||e||^2."""
    patients: int
    x_NF: sparse.csc_array
    """Activations, >= 0, without explicit zeros."""
    strength_N: Floats
    """Sum of an image's activations: how much of it the dictionary speaks of. It needs no label, and tells healthy
    from ill (AUROC 0.97 on the phantoms)."""

    @classmethod
    def of(
        cls,
        row_N: Ints,
        image_N: Sequence[str] | np.ndarray,
        patient_N: Sequence[str] | np.ndarray,
        e_ND: np.ndarray,
        x_NF: sparse.sparray,
        seed: int,
        metadata: Columns | None = None,
    ) -> Self:
        """All arguments with one row per image, in any order; `metadata` is what negatives are matched on.

        ArtifactError if lengths differ, an image comes twice, an embedding is not finite, or an activation negative.
        """
        image_N, order = np.unique(np.asarray(image_N, dtype=np.str_), return_index=True)
        columns = metadata or {}
        lengths = {len(row_N), len(image_N), len(patient_N), len(e_ND), x_NF.shape[0], *map(len, columns.values())}
        if len(lengths) > 1:
            raise ArtifactError(
                f"candidates have {sorted(lengths)} rows; each needs one of everything and a distinct id"
            )
        e_ND = np.asarray(e_ND, dtype=np.float32)[order]
        e_ND -= e_ND.mean(axis=0) if len(e_ND) else np.float32(0)
        sq_N = np.einsum("nd,nd->n", e_ND, e_ND)
        if not np.isfinite(sq_N).all():
            raise ArtifactError("an embedding is not finite; leave out images that have none")
        hash_N = [uniform_hash(str(seed), image) for image in image_N.tolist()]
        patients, patient_N = np.unique(np.asarray(patient_N, dtype=np.str_)[order], return_inverse=True)
        x_NF = _columns(x_NF, order)
        return cls(
            np.asarray(row_N, dtype=np.int64)[order],
            patient_N.reshape(-1),
            np.argsort(np.argsort(hash_N, kind="stable"), kind="stable"),
            strata(columns)[order] if columns else None,
            e_ND,
            sq_N,
            len(patients),
            x_NF,
            np.asarray(x_NF.sum(axis=1, dtype=np.float64)).reshape(-1),
        )

    def __len__(self) -> int:
        return len(self.row_N)

    def active(self, feature: int) -> ActiveRows:
        """Return the rows on which a feature is active, with its activations."""
        cells = slice(self.x_NF.indptr[feature], self.x_NF.indptr[feature + 1])
        return ActiveRows(self.x_NF.indices[cells].astype(np.int64), self.x_NF.data[cells].astype(np.float64))

    def distances(self, from_A: Ints, to_C: Ints) -> np.ndarray:
        """Squared Euclidean distances [A, C]: the geometry that the SAE was trained in.

        They are the same up to a constant per row of A, which is enough to find neighbours.
        """
        if len(to_C) > len(self) // 2:  # copying so many rows would take longer than more products
            product_AC: np.ndarray = (self.e_ND @ self.e_ND[from_A].T).T[:, to_C]
        else:
            product_AC = (self.e_ND[to_C] @ self.e_ND[from_A].T).T
        return np.asarray(self.sq_N[to_C] - 2 * product_AC)

    def claim_neighbours(self, anchors: Ints, among_C: Ints, k: int) -> Ints:
        """Up to `k` places of `among_C`: each anchor in turn takes its nearest one, one image per patient.

        Turn by turn, and not the nearest to the anchors' mean, which may look like none of them.
        """
        distance_AC, claimed = self.distances(anchors[:k], among_C), []
        turns = np.arange(k) % max(len(distance_AC), 1)
        for turn in turns if len(among_C) and len(anchors) else ():
            best = int(distance_AC[turn].argmin())
            if np.isinf(distance_AC[turn, best]):
                break
            claimed.append(among_C[best])
            distance_AC[:, self.patient_N[among_C] == self.patient_N[among_C[best]]] = np.inf
        return np.array(claimed, dtype=np.int64)


def _columns(x_NF: sparse.sparray, order: Ints) -> sparse.csc_array:
    x_NF = sparse.csc_array(sparse.csr_array(x_NF)[order])
    x_NF.eliminate_zeros()
    x_NF.sort_indices()
    if not np.isfinite(x_NF.data).all() or (x_NF.data < 0).any():
        raise ArtifactError(
            "an activation is negative or not finite; only features that are 0 or positive can be named"
        )
    return x_NF
