"""The test of retrieval over groups of shards: first what fingerprints are made of, then the searches.

Legend: N images, F features, D embedding dimension, R references, P places of a list, G images of a block.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pyarrow as pa
from scipy import sparse

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix
from medsae_ray.core.artifacts.layout import embedding_matrix
from medsae_ray.core.artifacts.work import shard_groups
from medsae_ray.core.retrieval.dense import cosines, search_dense, search_whole
from medsae_ray.core.retrieval.fingerprints import Fingerprints
from medsae_ray.core.retrieval.nearest import Found, Nearest
from medsae_ray.core.retrieval.quality import PLACES
from medsae_ray.core.retrieval.search import PIECE, Rows, search


@dataclass(frozen=True)
class Shelves:
    """The embeddings and activations of a run, read block by block."""

    embeddings: Artifact
    activations: Artifact
    shard_N: np.ndarray
    width: int

    def groups(self) -> list[list[int]]:
        """Split the shards into groups of at most `GROUP`, in shard order."""
        return shard_groups(part.shard for part in self.embeddings.parts)

    def blocks(self, shards: Sequence[int], wanted_N: np.ndarray) -> Iterator["Block"]:
        """Yield the wanted images that have an embedding, a few shards at a time."""
        held: list[Block] = []
        for shard in shards:
            row_G = np.flatnonzero(self.shard_N == shard)
            if not wanted_N[row_G].any():
                continue
            x_GD, ok_G = embedding_matrix(self.embeddings.part(shard))
            z_GF = activation_matrix(self.activations.part(shard, ["feature", "value"]), self.width)[ok_G]
            wanted_G = wanted_N[row_G[ok_G]]
            held.append(Block(row_G[ok_G][wanted_G], x_GD[wanted_G], z_GF[wanted_G]))
            if sum(len(block.row_G) for block in held) >= PIECE:
                yield Block.join(held)
                held = []
        if held:
            yield Block.join(held)


class Block(NamedTuple):
    """Some images, in manifest order."""

    row_G: np.ndarray
    x_GD: np.ndarray
    z_GF: sparse.csr_array

    @classmethod
    def join(cls, blocks: list["Block"]) -> Self:
        """Return several blocks as one."""
        rows, x, z = zip(*blocks, strict=True)
        return cls(np.concatenate(rows), np.concatenate(x), sparse.csr_array(sparse.vstack(z)))


class Counts(NamedTuple):
    """On how many images each feature is active, of all and of those that the SAE was trained on."""

    active_F: np.ndarray
    images: int
    training_F: np.ndarray
    training_images: int

    def plus(self, other: "Counts") -> "Counts":
        """Add the counts of other images."""
        return Counts(
            self.active_F + other.active_F,
            self.images + other.images,
            self.training_F + other.training_F,
            self.training_images + other.training_images,
        )


@dataclass(frozen=True)
class CountWork:
    """The counts of features, and the references' own rows."""

    shelves: Shelves
    training_N: np.ndarray
    reference_N: np.ndarray

    def groups(self) -> list[list[int]]:
        """Return the shards of each group."""
        return self.shelves.groups()

    def compute(self, shards: Sequence[int]) -> tuple[Counts, list[Block]]:
        """Count over activations alone; embeddings are read where there are references."""
        of, width = self.shelves, self.shelves.width
        total = Counts(np.zeros(width, np.int64), 0, np.zeros(width, np.int64), 0)
        for shard in shards:
            table = of.activations.part(shard, ["feature", "value"])
            ok_G = table["feature"].is_valid().to_numpy(zero_copy_only=False)
            training_G = self.training_N[of.shard_N == shard] & ok_G
            counted = [_active(table, chosen, width) for chosen in (ok_G, training_G)]
            total = total.plus(Counts(counted[0], int(ok_G.sum()), counted[1], int(training_G.sum())))
        return total, list(of.blocks(shards, self.reference_N))


def _active(table: pa.Table, chosen_G: np.ndarray, width: int) -> np.ndarray:
    z = activation_matrix(table.filter(pa.array(chosen_G)), width)
    return np.bincount(z.indices[z.data > 0], minlength=width)


@dataclass(frozen=True)
class SearchWork:
    """The references' searches among candidates."""

    shelves: Shelves
    candidate_N: np.ndarray
    group_N: np.ndarray
    """The patient of each image, as a number."""
    x_RD: np.ndarray
    """The references' embeddings."""
    random_RP: np.ndarray
    """Random rows; -1 for none."""
    prints: dict[str, Fingerprints]
    """The fingerprints "sparse", "rarity" and "dense"."""
    weights: dict[str, Floats]
    """The weights of features of the first two."""

    def groups(self) -> list[list[int]]:
        """Return the shards of each group."""
        return self.shelves.groups()

    def nothing(self) -> dict[str, Nearest]:
        """Return the lists before any search."""
        found = {name: Nearest.empty(len(p) * len(p.sizes), PLACES) for name, p in self.prints.items()}
        return found | {name: Nearest.empty(len(self.x_RD), PLACES) for name in ("whole", "random")}

    def compute(self, shards: Sequence[int]) -> dict[str, Nearest]:
        """Search the candidates of a group."""
        found, own_R = self.nothing(), self.prints["dense"].group_Q
        for block in self.shelves.blocks(shards, self.candidate_N):
            rows = Rows(block.row_G, self.group_N[block.row_G])
            cosine_RG = cosines(self.x_RD, block.x_GD)
            for name, weight_F in self.weights.items():
                search(self.prints[name], block.z_GF, weight_F, rows, found[name])
            search_dense(self.prints["dense"], block.x_GD, rows, found["dense"])
            search_whole(cosine_RG, own_R, rows, found["whole"])
            found["random"].add(self._random(rows))
            for nearest in found.values():
                _fill(nearest, cosine_RG, block.row_G)
        return found

    def _random(self, rows: Rows) -> Found:
        reference_M, place_M = np.nonzero(np.isin(self.random_RP, rows.row_G))
        row_M = self.random_RP[reference_M, place_M]
        return Found.of(reference_M, -place_M.astype(np.float64), row_M, self.group_N[row_M])


def _fill(nearest: Nearest, cosine_RG: Floats, row_G: np.ndarray) -> None:
    """Note the cosines of images that this block has brought into the lists."""
    list_M, place_M = np.nonzero((nearest.row_LP >= 0) & np.isnan(nearest.cosine_LP))
    reference_M = list_M // (len(nearest.row_LP) // max(1, len(cosine_RG)))
    at_M = np.searchsorted(row_G, nearest.row_LP[list_M, place_M])
    nearest.cosine_LP[list_M, place_M] = np.round(cosine_RG[reference_M, at_M], 9)


def random_rows(group_N: np.ndarray, candidate_N: np.ndarray, own_R: np.ndarray, seed: int) -> np.ndarray:
    """Return random candidates of each reference [R, P], of distinct patients and not its own; -1 where there are too
    few."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(candidate_N)
    rows = rows[np.argsort(group_N[rows], kind="stable")]
    patients, starts, counts = np.unique(group_N[rows], return_index=True, return_counts=True)
    found_RP = np.full((len(own_R), PLACES), -1, dtype=np.int64)
    for reference, own in enumerate(own_R):
        many = len(patients) > 8 * PLACES
        order = rng.integers(0, len(patients), 8 * PLACES) if many else rng.permutation(len(patients))
        distinct = np.array(list(dict.fromkeys(order[patients[order] != own].tolist()))[:PLACES], dtype=np.int64)
        image = starts[distinct] + (rng.random(len(distinct)) * counts[distinct]).astype(np.int64)
        found_RP[reference, : len(distinct)] = rows[image]
    return found_RP
