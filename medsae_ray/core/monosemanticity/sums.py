"""What the measures of monosemanticity need of all images, as partial sums over groups of shards.

Three kinds of unit are summed alike: features of the SAE ("sae"), raw dimensions of the encoder ("raw"), and features
of the SAE before training ("untrained"), whose activations are computed here. The sets of images are those of
core/analysis/partial_sums.py.

Legend: N images, n images of a shard, F units, L labels, K label permutations, T tokens of an image, D embedding
dimension.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.entropy import null_comoments, shuffles
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.analysis.values import Bools, Ints, UnitValues
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix
from medsae_ray.core.artifacts.layout import every_embedding, token_matrix
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.monosemanticity.coherence import judged
from medsae_ray.core.monosemanticity.similarity import PairSums
from medsae_ray.core.monosemanticity.strongest import Strongest
from medsae_ray.core.sae.activations import TOKENS, tokens_encoded
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.sparse import sparse_rows

SPACES = ("sae", "raw", "untrained")
BATCH = 1024
"""The most images that are encoded at once."""


@dataclass(frozen=True)
class Images:
    """The images as the measures number them: by image_id, so that no number depends on shards."""

    order_N: Ints
    """The place in the manifest of each image in this order."""
    rank_N: Ints
    """The number of each image of the manifest."""
    patient_N: Ints
    """The patient of each image of the manifest, as a number."""

    @classmethod
    def of(cls, labels: Labels) -> "Images":
        """Number the images of a manifest."""
        order_N = np.argsort(labels.image_N.astype(str), kind="stable")
        rank_N = np.empty_like(order_N)
        rank_N[order_N] = np.arange(len(order_N))
        return cls(order_N, rank_N, np.unique(labels.patient_N.astype(str), return_inverse=True)[1])


@dataclass(frozen=True)
class SpaceSums:
    """The sums of one kind of unit, a monoid under `merge`."""

    heldout: Strongest
    """The strongest images of patients that the SAE was not trained on."""
    test: Strongest
    """The strongest images of test patients."""
    pairs: PairSums
    """One image of each held-out patient, as are `one` and `null`."""
    discovery: Comoments
    """The sums that choose a unit's label."""
    one: Comoments
    null: Comoments
    """The label axis is [K x L]."""

    def merge(self, other: "SpaceSums") -> "SpaceSums":
        """Add the sums of other images."""
        return SpaceSums(
            self.heldout.merge(other.heldout),
            self.test.merge(other.test),
            self.pairs.merge(other.pairs),
            self.discovery.merge(other.discovery),
            self.one.merge(other.one),
            self.null.merge(other.null),
        )


class Sums(NamedTuple):
    """The sums of all three kinds of unit, named as `SPACES`."""

    sae: SpaceSums
    raw: SpaceSums
    untrained: SpaceSums

    def merge(self, other: "Sums") -> "Sums":
        """Add the sums of other images."""
        return Sums(*(one.merge(two) for one, two in zip(self, other, strict=True)))


@dataclass(frozen=True)
class MonosemanticityWork:
    """The inputs of all groups besides their shards, shared by all groups."""

    embeddings: Artifact
    activations: Artifact
    labels: Labels
    numbers: Images
    untrained: SAE
    images: int
    """The strongest images of a unit that are judged."""
    permutations: int
    seed: int
    judge: Artifact | None = None
    """The embeddings of another encoder, by which images are alike; None for the same ones."""

    def groups(self) -> list[list[int]]:
        """Split the shards into groups of the same size as for the features' statistics."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def compute(self, shards: Sequence[int]) -> Sums:
        """Compute the sums of a group, with one shard in memory at a time."""
        return reduce(Sums.merge, map(self._shard, shards))

    def _shard(self, shard: int) -> Sums:
        x_nTD, ok = token_matrix(self.embeddings.part(shard))
        rows = np.flatnonzero(self.labels.shard_N == shard)[ok]
        table = self.activations.part(shard, ["feature", "value"]).take(ok)
        e_nD = x_nTD.mean(1, dtype=np.float64) if x_nTD.shape[1] > 1 else x_nTD[:, 0]
        spaces = activation_matrix(table, self.untrained.width), e_nD, self._encoded(x_nTD)
        # `PairSums` leaves out an image of NaN.
        alike_nD = e_nD if self.judge is None else every_embedding(self.judge.part(shard), np.nan)[ok]
        return Sums(*(self._sums(x_nF, alike_nD, rows) for x_nF in spaces))

    @torch.no_grad()
    def _encoded(self, x_nTD: np.ndarray) -> sparse.csr_array:
        """Return the untrained SAE's activations of whole images: of patches the largest, as in stage activations."""
        size = max(1, min(BATCH, TOKENS // x_nTD.shape[1])) if x_nTD.shape[1] > 1 else BATCH
        found = [sparse.csr_array((0, self.untrained.width), dtype=np.float32)]
        for start in range(0, len(x_nTD), size):
            x_BTD = x_nTD[start : start + size]
            rows = sparse_rows(tokens_encoded(self.untrained, x_BTD, "cpu")[1].unflatten(0, x_BTD.shape[:2]).amax(1))
            shape = (len(x_BTD), self.untrained.width)
            found.append(sparse.csr_array((rows.values, rows.indices, rows.offsets), shape=shape))
        return sparse.vstack(found, format="csr")

    def _sums(self, x_nF: UnitValues, e_nD: np.ndarray, rows_n: Ints) -> SpaceSums:
        labels, y_PL = self.labels, self.labels.y_NL[self._pool]
        one, discovery = labels.heldout_N[rows_n], labels.discovery_N[rows_n]
        places = np.searchsorted(self._pool, rows_n[one])
        known = judged(labels.y_NL[rows_n])
        return SpaceSums(
            heldout=self._strongest(x_nF, rows_n, known & ~labels.training_N[rows_n]),
            test=self._strongest(x_nF, rows_n, known & ~discovery),
            pairs=PairSums.of(x_nF[one], e_nD[one]),
            discovery=Comoments.of(x_nF[discovery], labels.y_NL[rows_n[discovery]], labels.weights(rows_n[discovery])),
            one=Comoments.of(x_nF[one], y_PL[places]),
            null=null_comoments(x_nF[one], places, y_PL, self._orders),
        )

    def _strongest(self, x_nF: UnitValues, rows_n: Ints, chosen: Bools) -> Strongest:
        """Raw dimensions have no value that means silence: all but the smallest are candidates (`above_low`)."""
        rows, least = rows_n[chosen], 0.0 if sparse.issparse(x_nF) else -np.inf
        numbers = self.numbers
        return Strongest.of(x_nF[chosen], numbers.rank_N[rows], numbers.patient_N[rows], self.images, least)

    @cached_property
    def _pool(self) -> Ints:
        return np.flatnonzero(self.labels.heldout_N)

    @cached_property
    def _orders(self) -> Ints:
        names = np.array(self.labels.datasets)[self.labels.dataset_N[self._pool]]
        return shuffles(names, self.seed, self.permutations)
