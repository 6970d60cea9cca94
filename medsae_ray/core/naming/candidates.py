"""The images that features are named or tested on, with the data for sampling.

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
    """The non-zero entries of one feature: places among the candidates, ascending, and values."""

    place_A: Ints
    value_A: Floats


class ImageSample(NamedTuple):
    """The images chosen for one feature, each of another patient; none if the support is insufficient."""

    feature: int
    status: str
    """The status: SUFFICIENT or INSUFFICIENT."""
    row_n: Ints
    """The row numbers in the manifest."""
    role_n: list[str]
    value_n: Floats
    """The activations: 0 exactly on the negatives or contrasts."""
    active: int
    """The number of patients with an image on which the feature is active and not faint."""
    inactive: int
    """The number of patients, other than the positives here, with an image on which it is 0."""
    unmatched: int = 0
    """The number of negatives that are equal in strength only, for want of a match."""
    faint: int = 0
    """The number of patients with active images, all of them too faint to count."""

    @property
    def y_n(self) -> Floats:
        """The classes: 1 for positives, 0 for negatives."""
        return (self.value_n > 0).astype(np.float64)


def unsupported(feature: int, active: int, inactive: int, faint: int = 0) -> ImageSample:
    """Return the sample of a feature with too few images to be named or tested: no images, only their counts."""
    return ImageSample(feature, INSUFFICIENT, np.zeros(0, np.int64), [], np.zeros(0), active, inactive, faint=faint)


@dataclass(frozen=True)
class Candidates:
    """The readable images of the patients of one role, sorted by image id: no result depends on their first order.

    All fields are numeric arrays, so that workers can share one copy.
    """

    row_N: Ints
    """The row numbers in the manifest."""
    patient_N: Ints
    order_N: Ints
    """The position of each image in one random order that all features share; the first are the pool."""
    stratum_N: Ints | None
    """The group of each image: equal numbers mean equal metadata; None without metadata."""
    e_ND: np.ndarray
    """The embeddings as float32, centred: distances stay the same, rounding errors shrink."""
    sq_N: np.ndarray
    """The squared norms ||e||^2."""
    patients: int
    x_NF: sparse.csc_array
    """The activations, >= 0, without explicit zeros."""
    strength_N: Floats
    """The sum of each image's activations. It needs no label, and separates healthy from ill (AUROC 0.97 on the
    phantoms)."""

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
        """Build candidates from one row per image, in any order; negatives are matched on `metadata`.

        Raises ArtifactError if lengths differ, an id comes twice, an embedding is not finite, or a value negative.
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
        """Return squared Euclidean distances [A, C], the geometry of the SAE's training.

        They are exact up to a constant per row of A, which suffices to find neighbours.
        """
        if len(to_C) > len(self) // 2:  # copying so many rows would take longer than more products
            product_AC: np.ndarray = (self.e_ND @ self.e_ND[from_A].T).T[:, to_C]
        else:
            product_AC = (self.e_ND[to_C] @ self.e_ND[from_A].T).T
        return np.asarray(self.sq_N[to_C] - 2 * product_AC)

    def claim_neighbours(self, anchors: Ints, among_C: Ints, k: int) -> Ints:
        """Return up to `k` places of `among_C`: each anchor in turn takes its nearest one, one image per patient.

        Images near the anchors' mean would not do: they may look like none of the anchors.
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
