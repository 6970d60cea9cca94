"""Statistics of every unit from activations and labels, as partial sums over groups of shards.

Three sets of images are kept apart:
    discovery  patients of the splits sae and naming: correlations, and with them the choice of a unit's best label;
               one image each: the p-value of that choice
    held out   patients of naming and detection, one image each: entropy and its null; the SAE was not trained on them
    test       patients of detection, one image each: AUROC of the labels that discovery chose
An image without an embedding is in none of them.

Legend: N images, F units, L labels, K label permutations, G images of a group.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.contingency import Overlap
from medsae_ray.core.analysis.entropy import null_comoments, shuffles
from medsae_ray.core.analysis.units import UnitStats
from medsae_ray.core.analysis.values import UnitValues
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix, column
from medsae_ray.core.artifacts.layout import Layout, embedding_matrix
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.datasets.rows import Policy, label_matrix


@dataclass(frozen=True)
class Labels:
    """The labels and sets of all images, in manifest order."""

    y_NL: np.ndarray
    """The labels as float64, NaN = left out."""
    training_N: np.ndarray
    """True for images of the patients that the SAE was trained on."""
    unseen_N: np.ndarray
    """True for images of patients that had no part in the SAE, on which its R2 and L0 are measured."""
    discovery_N: np.ndarray
    discovery_one_N: np.ndarray
    """The one image of each discovery patient."""
    heldout_N: np.ndarray
    test_N: np.ndarray
    image_N: np.ndarray
    patient_N: np.ndarray
    shard_N: np.ndarray
    counted_N: np.ndarray
    """False for images that are left out of everything (see `within`)."""
    dataset_N: np.ndarray
    """The index of each image's dataset in `datasets`."""
    datasets: list[str]
    """The datasets in alphabetical order, independent of the recipe's."""
    by_patient: bool = field(default=False, kw_only=True)
    """True if correlations weight each patient once, and not each image."""

    @classmethod
    def of(cls, manifest: pa.Table, uncertain: Policy, blank: Policy, ok_N: np.ndarray) -> Self:
        """Read the labels and sets from a manifest; `ok_N` marks the images with an embedding (see `readable`)."""
        split = column(manifest, "split")
        one_each = one_readable(manifest, ok_N)
        datasets, dataset_N = np.unique(column(manifest, "dataset").astype(str), return_inverse=True)
        return cls(
            y_NL=label_matrix(manifest, uncertain, blank),
            training_N=split == "sae",
            unseen_N=split != "sae",
            discovery_N=(split != "detection") & ok_N,
            discovery_one_N=(split != "detection") & one_each,
            heldout_N=(split != "sae") & one_each,
            test_N=(split == "detection") & one_each,
            image_N=column(manifest, "image_id"),
            patient_N=column(manifest, "patient_id"),
            shard_N=column(manifest, "shard"),
            counted_N=np.ones(manifest.num_rows, dtype=bool),
            dataset_N=dataset_N,
            datasets=datasets.tolist(),
        )

    def after_choice(self) -> Self:
        """Return the same labels for an SAE that was chosen on naming patients: held-out figures are of the others."""
        detection_N = self.unseen_N & ~self.discovery_N
        return replace(self, unseen_N=detection_N, heldout_N=self.test_N)

    def within(self, chosen_N: np.ndarray) -> Self:
        """Return the same labels restricted to the chosen images, for example those of one dataset."""
        sets = ("discovery_N", "discovery_one_N", "heldout_N", "test_N", "counted_N")
        return replace(self, **{name: getattr(self, name) & chosen_N for name in sets})

    @cached_property
    def weight_NL(self) -> np.ndarray | None:
        """The weights of the discovery images in correlations: 1 over the number of the patient's discovery images with
        a known label. None if each image counts once."""
        if not self.by_patient:
            return None
        known_NL = ~np.isnan(self.y_NL) & self.discovery_N[:, None]
        _, patient_N = np.unique(self.patient_N.astype(str), return_inverse=True)
        images = [np.bincount(patient_N, known_N)[patient_N] for known_N in known_NL.T]
        return 1 / np.maximum(np.stack(images, axis=1), 1) if images else np.empty(known_NL.shape)

    def weights(self, rows_n: np.ndarray) -> np.ndarray | None:
        """Return the weights of some images."""
        return None if self.weight_NL is None else self.weight_NL[rows_n]

    def discovery_patients(self) -> np.ndarray:
        """Count the distinct discovery patients with each label known [L]: the n behind the intervals of r.

        Several images of a patient are not independent, so counting images would make intervals too narrow.
        """
        known_NL = ~np.isnan(self.y_NL) & self.discovery_N[:, None]
        return np.array([len(np.unique(self.patient_N[known])) for known in known_NL.T], dtype=np.int64)


def one_readable(manifest: pa.Table, ok_N: np.ndarray) -> np.ndarray:
    """Return a mask [N] of one readable image per patient: the index image, else the first in the manifest."""
    rows = np.flatnonzero(ok_N)
    index_first = np.argsort(~column(manifest, "index_image").astype(bool)[rows], kind="stable")
    _, first = np.unique(column(manifest, "patient_id")[rows][index_first].astype(str), return_index=True)
    chosen_N = np.zeros(len(ok_N), dtype=bool)
    chosen_N[rows[index_first[first]]] = True
    return chosen_N


class TestRows(NamedTuple):
    """The test images of a group: row numbers in the manifest and unit values."""

    row_n: np.ndarray
    x_nF: UnitValues

    def copied(self) -> "TestRows":
        """Return the same in memory of its own."""
        return TestRows(self.row_n.copy(), self.x_nF.copy())


@dataclass(frozen=True)
class Sums:
    """The partial sums of one kind of unit over some images, a monoid under `merge`."""

    units: UnitStats
    discovery: Comoments
    overlap: Overlap
    heldout: Comoments
    null: Comoments
    """The sums of the held-out images, label axis [K x L]."""
    tests: list[TestRows]

    def merge(self, other: Self) -> "Sums":
        """Add the sums of other images; copies of their test rows are appended, as Ray keeps a whole result in memory
        for as long as there is a view of any array in it."""
        return Sums(
            self.units.merge(other.units),
            self.discovery.merge(other.discovery),
            self.overlap.merge(other.overlap),
            self.heldout.merge(other.heldout),
            self.null.merge(other.null),
            [*self.tests, *(rows.copied() for rows in other.tests)],
        )


class Quality(NamedTuple):
    """The sums behind FVU and L0 over the held-out patients' images (all of them)."""

    sq_error: float
    sq_norm: float
    rows: int
    """The number of reconstructed inputs: images, or their patches."""
    active: int
    """The active features of all inputs, summed."""

    def merge(self, other: "Quality") -> "Quality":
        """Add the sums of other images."""
        return Quality(
            self.sq_error + other.sq_error,
            self.sq_norm + other.sq_norm,
            self.rows + other.rows,
            self.active + other.active,
        )


class GroupSums(NamedTuple):
    """The contribution of one group of shards."""

    sae: Sums
    raw: Sums
    quality: Quality

    def merge(self, other: "GroupSums") -> "GroupSums":
        """Add the sums of another group of shards."""
        return GroupSums(self.sae.merge(other.sae), self.raw.merge(other.raw), self.quality.merge(other.quality))


@dataclass(frozen=True)
class FeatureWork:
    """The inputs of all groups besides their shards. Small but for the labels, and shared by all groups."""

    embeddings: Artifact
    activations: Artifact
    labels: Labels
    width: int
    top_images: int
    permutations: int
    seed: int

    def groups(self) -> list[list[int]]:
        """Split the shards into groups of at most `GROUP`, in shard order."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def compute(self, shards: Sequence[int]) -> GroupSums:
        """Compute the partial sums of a group, whose shards are read once."""
        raw_GD, ok_G, layout = self._embeddings(shards)
        activations = pa.concat_tables(self.activations.part(shard) for shard in shards).take(pa.array(ok_G))
        rows_G = np.flatnonzero(np.isin(self.labels.shard_N, shards))[ok_G]
        if not (counted_G := self.labels.counted_N[rows_G]).all():
            raw_GD, activations, rows_G = raw_GD[counted_G], activations.filter(pa.array(counted_G)), rows_G[counted_G]
        sae = self._sums(activation_matrix(activations, self.width), rows_G)
        return GroupSums(sae, self._sums(raw_GD, rows_G), self._quality(activations, rows_G, layout))

    def _embeddings(self, shards: Sequence[int]) -> tuple[np.ndarray, np.ndarray, Layout]:
        """Return an embedding per readable image of the group, its row in the group, and the layout of an image."""
        x, rows, start = [], [], 0
        for shard in shards:
            part = self.embeddings.part(shard)  # one at a time: patches take much memory
            values, ok = embedding_matrix(part)
            x.append(values)
            rows.append(start + ok)
            start += part.num_rows
        return np.concatenate(x), np.concatenate(rows), Layout.of(part.schema)

    def _sums(self, x_GF: UnitValues, rows_G: np.ndarray) -> Sums:
        labels = self.labels
        sets = (labels.discovery_N, labels.discovery_one_N, labels.heldout_N, labels.test_N)
        discovery, one, heldout, test = (mask[rows_G] for mask in sets)
        pool = np.flatnonzero(labels.heldout_N)
        y_PL = labels.y_NL[pool]
        places = np.searchsorted(pool, rows_G[heldout])
        orders = shuffles(np.array(labels.datasets)[labels.dataset_N[pool]], self.seed, self.permutations)
        strata = labels.dataset_N[rows_G[one]]
        return Sums(
            UnitStats.of(x_GF, labels.image_N[rows_G], labels.patient_N[rows_G], self.top_images),
            Comoments.of(x_GF[discovery], labels.y_NL[rows_G[discovery]], labels.weights(rows_G[discovery])),
            Overlap.of(x_GF[one], labels.y_NL[rows_G[one]], strata, len(labels.datasets)),
            Comoments.of(x_GF[heldout], y_PL[places]),
            null_comoments(x_GF[heldout], places, y_PL, orders),
            [TestRows(rows_G[test], x_GF[test])],
        )

    def _quality(self, activations: pa.Table, rows_G: np.ndarray, layout: Layout) -> Quality:
        chosen = activations.filter(pa.array(self.labels.unseen_N[rows_G]))
        active = chosen["patch_active"] if layout.grid else pa.compute.list_value_length(chosen["feature"])
        error, norm = (pa.compute.sum(chosen[c]).as_py() or 0.0 for c in ("sq_error", "sq_norm"))
        return Quality(error, norm, chosen.num_rows * layout.tokens, pa.compute.sum(active).as_py() or 0)
