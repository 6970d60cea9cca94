"""The images of a run that share an image's strongest features, found part by part: no process holds more than a few.

Legend: N images, F features, G images of a part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import cast

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.likeness import Judge
from medsae_ray.core.analysis.percentiles import OwnActivations
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix, column
from medsae_ray.core.artifacts.likeness import UnlikeTheRun
from medsae_ray.core.retrieval.answer import COLUMNS, ActiveFeature, NamedFeature, SimilarAnswer, SimilarImage, named
from medsae_ray.core.retrieval.fingerprints import Fingerprints, discriminating
from medsae_ray.core.retrieval.nearest import Nearest
from medsae_ray.core.retrieval.neighbours import usable
from medsae_ray.core.retrieval.search import Rows, search

PARTS = 64
"""The parts that are kept for the next search: a few bytes for each active feature of their images."""


@dataclass(frozen=True)
class Query:
    """An image that similar ones are searched for."""

    image: str
    """Its id in the run, or what the caller calls it."""
    z_1F: sparse.csr_array
    row: int | None
    """Its row in the manifest, whose patient is left out; None for an image from elsewhere."""
    unlike: UnlikeTheRun | None = None


class Similar:
    """The images of a finished run, their patients and its features' names."""

    def __init__(self, artifacts: Mapping[str, Artifact]) -> None:
        self._artifacts = artifacts
        self._part = lru_cache(PARTS)(self._read)
        table = artifacts["manifest"].table(["image_id", "patient_id", "split", "shard"])
        self._image_N, self._split_N, self._shard_N = (column(table, name) for name in ("image_id", "split", "shard"))
        self._group_N = np.unique(column(table, "patient_id").astype(str), return_inverse=True)[1]
        atlas = artifacts["atlas"].table(["feature", "n_images", "n_active", *COLUMNS]).sort_by("feature")
        self._weight_F = discriminating(column(atlas, "n_active"), int(column(atlas, "n_images").max(initial=1)))
        self._named = [{"feature": row["feature"], **named(row)} for row in atlas.to_pylist()]
        self._judge = Judge(artifacts["likeness"]) if "likeness" in artifacts else None

    def of_run(self, image_id: str) -> Query | None:
        """Return the query of an image of the run; None if it has none of that id."""
        (rows,) = np.nonzero(self._image_N == image_id)
        if not len(rows):
            return None
        row = int(rows[0])
        shard = int(self._shard_N[row])
        at = int(np.flatnonzero(np.flatnonzero(self._shard_N == shard) == row)[0])
        return Query(image_id, self._part(shard)[[at]], row, self._judge.of_row(row) if self._judge else None)

    def of_activations(
        self, image: str, features: list[int], values: list[float], unlike: UnlikeTheRun | None = None
    ) -> Query:
        """Return the query of an image from elsewhere, by its active features; `unlike` is the judgement of it."""
        z = sparse.csr_array(
            (np.array(values, dtype=np.float32), np.array(features, dtype=np.int64), [0, len(features)]),
            shape=(1, len(self._named)),
        )
        return Query(image, z, None, unlike)

    def ask(self, query: Query, k: int = 5, images: int = 10, split: str | None = None) -> SimilarAnswer:
        """Return the images that share the query's k strongest features, one of each patient, the most similar first.

        A query with fewer than k active features is searched for by all of them, and `reason` says so. It also says why
        there are no images: no feature is active, or nobody shares them.
        """
        active = int(((query.z_1F.data > 0) & (self._weight_F[query.z_1F.indices] > 0)).sum())
        group = -1 if query.row is None else int(self._group_N[query.row])
        size, reason = usable(active, k)
        prints = Fingerprints.strongest(query.z_1F, self._weight_F, np.array([group]), [max(size, 1)])
        features = [int(f) for f in prints.coordinate_QK[0] if f >= 0]
        found = self._search(prints, features, images, split) if size else []
        if size and not found:
            reason = "no image of another patient shares one of these features"
        return {
            "image": query.image,
            "k": size,
            "features": [self._feature(f, float(v)) for f, v in zip(features, prints.value_QK[0], strict=False)],
            "images": found,
            "reason": reason,
            "unlike_the_run": query.unlike,
            "sae": self._artifacts["sae"].name,
            "atlas": self._artifacts["atlas"].name,
        }

    def _search(self, prints: Fingerprints, features: list[int], images: int, split: str | None) -> list[SimilarImage]:
        nearest = Nearest.empty(1, images)
        for shard in self._shards():
            row_G = np.flatnonzero(self._shard_N == shard)
            wanted_G = np.ones(len(row_G), dtype=bool) if split is None else self._split_N[row_G] == split
            if wanted_G.any():
                block = Rows(row_G[wanted_G], self._group_N[row_G[wanted_G]])
                search(prints, self._part(shard)[wanted_G], self._weight_F, block, nearest, silent=False)
        rows = [int(row) for row in nearest.row_LP[0] if row >= 0]
        shared = self._shared(rows, features)
        return [
            {
                "image_id": str(self._image_N[row]),
                "split": str(self._split_N[row]),
                "similarity": float(similarity),
                "features": shared[row],
            }
            for row, similarity in zip(rows, nearest.similarity_LP[0], strict=False)
        ]

    def _shared(self, rows: list[int], features: list[int]) -> dict[int, list[ActiveFeature]]:
        """Return which of the features each found image shares; their parts are read again."""
        found: dict[int, list[ActiveFeature]] = {}
        for shard in sorted({int(self._shard_N[row]) for row in rows}):
            z_GF, row_G = self._part(shard), np.flatnonzero(self._shard_N == shard)
            for row in (row for row in rows if self._shard_N[row] == shard):
                value_F = z_GF[[int(np.flatnonzero(row_G == row)[0])]].toarray()[0]
                found[row] = [{"feature": f, "activation": float(value_F[f])} for f in features if value_F[f] > 0]
        return found

    def _feature(self, feature: int, activation: float) -> NamedFeature:
        own = {"activation": activation, "percentile": self.percentile(feature, activation)}
        return cast(NamedFeature, self._named[feature] | own)

    def percentile(self, feature: int, activation: float) -> float:
        """Return the share of the run's images with a feature on which it is no stronger, from 0 to 100. The first call
        reads all activations once."""
        return self._spread.percentile(feature, activation)

    @cached_property
    def _spread(self) -> OwnActivations:
        return OwnActivations.of(self._artifacts["activations"], len(self._named))

    def _shards(self) -> list[int]:
        return [part.shard for part in self._artifacts["activations"].parts]

    def _read(self, shard: int) -> sparse.csr_array:
        table = self._artifacts["activations"].part(shard, ["feature", "value"])
        return activation_matrix(table, len(self._named))
