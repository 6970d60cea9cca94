"""The activity of units over images: frequency, strength and top images.

All parts merge. Counts, maxima, histograms and top images are exact in any order; `sum_F` is up to rounding.

Legend: N images, F units, T entries of the top images (unit by unit, best first), I images among them, k images a unit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from medsae_ray.core.analysis.group_best import Entries, group_best
from medsae_ray.core.analysis.values import Floats, Ints, UnitValues, unit_values
from medsae_ray.core.artifacts.schema import HISTOGRAM_BINS
from medsae_ray.errors import ArtifactError

Ids: TypeAlias = Sequence[str] | NDArray[np.str_]

TOP_IMAGES = 16
HISTOGRAM_LOG2 = (-12, 4)
"""The range of the histogram: |values| from 2^-12 to 2^4; those outside go to the end bins."""


class Top(NamedTuple):
    """A unit's strongest images, best first, each of another patient."""

    image_ids: list[str]
    patient_ids: list[str]
    values: list[float]


@dataclass(frozen=True)
class TopImages:
    """The up to `k` images per unit with the largest non-zero values, one per patient, ties by image_id."""

    units: int
    k: int
    image_I: np.ndarray
    """The image ids, ascending, each once."""
    patient_I: np.ndarray
    unit_T: Ints
    row_T: Ints
    """The row of each entry in `image_I`."""
    value_T: Floats

    @classmethod
    def zero(cls, units: int, k: int = TOP_IMAGES) -> Self:
        """Return the identity of `merge`: no images. Raises ArtifactError if k is below 1."""
        if k < 1:
            raise ArtifactError(f"top {k} images were asked for, at least 1 is needed")
        none = np.zeros(0, np.int64)
        return cls(units, k, np.zeros(0, "U1"), np.zeros(0, "U1"), none, none, np.zeros(0))

    @classmethod
    def of(cls, x_NF: UnitValues, image_ids: Ids, patient_ids: Ids, k: int = TOP_IMAGES) -> Self:
        """Take the top images of one shard. Raises ArtifactError if ids are not one per row, or one comes twice."""
        x_NF = unit_values(x_NF)
        image_N, order_N = np.unique(np.asarray(image_ids, dtype=np.str_), return_index=True)
        if not len(image_N) == len(image_ids) == len(patient_ids) == x_NF.shape[0]:
            raise ArtifactError(
                f"{len(image_ids)} image ids ({len(image_N)} distinct) and {len(patient_ids)} patient ids were given "
                f"for {x_NF.shape[0]} rows; each row needs one of each, and an image comes once"
            )
        patient_N = np.asarray(patient_ids, dtype=np.str_)[order_N]
        entries = group_best(x_NF[order_N], np.unique(patient_N, return_inverse=True)[1], k)
        return cls.zero(x_NF.shape[1], k)._best(image_N, patient_N, entries)

    def merge(self, other: Self) -> Self:
        """Merge with the top images of other rows: exact in any order, with identity `zero`."""
        if (self.units, self.k) != (other.units, other.k):
            raise ArtifactError(
                f"top {self.k} of {self.units} and top {other.k} of {other.units} units cannot be merged"
            )
        images = np.concatenate([self.image_I, other.image_I])
        patients = np.concatenate([self.patient_I, other.patient_I])
        image_I, first_I, row_of = np.unique(images, return_index=True, return_inverse=True)
        if (differ := np.flatnonzero(patients[first_I][row_of] != patients)).size:
            raise ArtifactError(
                f"image {str(images[differ[0]])!r} belongs to two patients; patient ids must be settled first"
            )
        row_T = np.concatenate([row_of[: len(self.image_I)][self.row_T], row_of[len(self.image_I) :][other.row_T]])
        unit_T = np.concatenate([self.unit_T, other.unit_T])
        value_T = np.concatenate([self.value_T, other.value_T])
        return self._best(image_I, patients[first_I], Entries(unit_T, row_T, value_T))

    def per_unit(self) -> list[Top]:
        """Return one `Top` per unit, empty where the unit is never active."""
        bounds = np.searchsorted(self.unit_T, np.arange(self.units + 1))
        images, patients = self.image_I[self.row_T].tolist(), self.patient_I[self.row_T].tolist()
        values = self.value_T.tolist()
        return [Top(images[a:b], patients[a:b], values[a:b]) for a, b in pairwise(bounds)]

    def _best(self, image_I: np.ndarray, patient_I: np.ndarray, entries: Entries) -> Self:
        """Keep the best image per unit and patient, then the best k per unit; unused images leave the table."""
        unit_T, row_T, value_T = entries
        order = np.lexsort((row_T, -value_T, unit_T))
        patients, patient_of = np.unique(patient_I, return_inverse=True)
        _, first = np.unique((unit_T * len(patients) + patient_of[row_T])[order], return_index=True)
        order = order[np.sort(first)]
        unit_T = unit_T[order]
        rank_T = np.arange(len(order)) - np.searchsorted(unit_T, unit_T)
        order = order[rank_T < self.k]
        used, row_T = np.unique(row_T[order], return_inverse=True)
        image_I, patient_I = _trimmed(image_I[used]), _trimmed(patient_I[used])
        return type(self)(self.units, self.k, image_I, patient_I, unit_T[rank_T < self.k], row_T, value_T[order])


@dataclass(frozen=True)
class UnitStats:
    """The activity of every unit over some images: a commutative monoid with identity `zero`."""

    n_images: int
    n_active_F: Ints
    """The number of images with a value other than 0."""
    sum_F: Floats
    max_F: Floats
    """The largest value, zeros included; -inf over no images."""
    histogram_FB: Ints
    """The non-zero |values| in `HISTOGRAM_BINS` bins of equal log2 width over `HISTOGRAM_LOG2`."""
    top: TopImages

    @classmethod
    def zero(cls, units: int, k: int = TOP_IMAGES) -> Self:
        """Return the identity of `merge`: no images."""
        counts_FB = np.zeros((units, HISTOGRAM_BINS), np.int64)
        return cls(
            0, counts_FB[:, 0].copy(), np.zeros(units), np.full(units, -np.inf), counts_FB, TopImages.zero(units, k)
        )

    @classmethod
    def of(cls, x_NF: UnitValues, image_ids: Ids, patient_ids: Ids, k: int = TOP_IMAGES) -> Self:
        """Compute the statistics of one shard.

        Raises ArtifactError if a value is not finite, ids are not one per row, or an image comes twice.
        """
        x_NF = unit_values(x_NF)
        n, units = x_NF.shape
        top = TopImages.of(x_NF, image_ids, patient_ids, k)
        if n == 0:
            return cls.zero(units, k)
        largest_F = x_NF.max(axis=0)
        max_F = largest_F.toarray().ravel() if sparse.issparse(largest_F) else largest_F
        unit_T, value_T = _nonzero(x_NF)
        cell_T = unit_T * HISTOGRAM_BINS + _bin(value_T)
        histogram_FB = np.bincount(cell_T, minlength=units * HISTOGRAM_BINS).reshape(units, HISTOGRAM_BINS)
        return cls(n, histogram_FB.sum(axis=1), np.asarray(x_NF.sum(axis=0)).ravel(), max_F, histogram_FB, top)

    def merge(self, other: Self) -> Self:
        """Add the statistics of other images of the same units."""
        return type(self)(
            self.n_images + other.n_images,
            self.n_active_F + other.n_active_F,
            self.sum_F + other.sum_F,
            np.maximum(self.max_F, other.max_F),
            self.histogram_FB + other.histogram_FB,
            self.top.merge(other.top),
        )

    def frequency(self) -> Floats:
        """Compute the share of images on which the unit is active; NaN over no images."""
        return self.n_active_F / (self.n_images or np.nan)

    def mean_active(self) -> Floats:
        """Compute the mean over the images on which the unit is active; NaN without such images."""
        mean_F: Floats = self.sum_F / np.where(self.n_active_F > 0, self.n_active_F, np.nan)
        return mean_F


def _nonzero(x_NF: UnitValues) -> tuple[Ints, Floats]:
    """Return the units and values of all entries other than 0."""
    if isinstance(x_NF, sparse.sparray):
        x = x_NF.tocoo()
        return x.coords[1].astype(np.int64), x.data
    row_T, unit_T = np.nonzero(x_NF)
    return unit_T, x_NF[row_T, unit_T]


def _bin(value_T: Floats) -> Ints:
    low, high = HISTOGRAM_LOG2
    place_T = (np.log2(np.abs(value_T)) - low) * (HISTOGRAM_BINS / (high - low))
    bin_T: Ints = np.clip(np.floor(place_T), 0, HISTOGRAM_BINS - 1).astype(np.int64)
    return bin_T


def _trimmed(ids: np.ndarray) -> np.ndarray:
    """Return `ids` in the narrowest text type that holds the longest, so that equal tables have equal types."""
    width = int(np.char.str_len(ids).max(initial=1))
    return ids.astype(f"U{max(width, 1)}")
