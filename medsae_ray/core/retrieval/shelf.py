"""The images of a run with their activations, and the ranks of images by a few features.

Legend: N images, F features, J features of an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
from scipy import sparse

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix, column
from medsae_ray.core.naming.distinct_images import SHOWN, STRONGEST, diverse
from medsae_ray.core.retrieval.answer import ActiveFeature, FoundImage


class Match(NamedTuple):
    """A feature that answers a query."""

    feature: int
    score: float
    """The cosine with the query, BM25 of the names, or the weight of a pick."""
    p: float | None
    """The chance that a random mixture of features has such a cosine; None for words and picks."""


class Among(NamedTuple):
    """The images that an answer may have."""

    split: str | None = None
    without: Sequence[int] = ()
    """The features that must be inactive."""
    kept_N: np.ndarray | None = None
    """Further conditions; None for none."""


@dataclass(frozen=True)
class Shelf:
    """The images of a run with their activations, in manifest order."""

    image_N: np.ndarray
    patient_N: np.ndarray
    split_N: np.ndarray
    ok_N: np.ndarray
    """True for images that have activations."""
    x_NF: sparse.csc_array
    """The activations, each as a share of its feature's largest."""
    max_F: Floats

    @classmethod
    def of(cls, manifest: Artifact, activations: Artifact, width: int) -> Self:
        """Read ids and splits from the manifest; scale each feature's activations by its maximum over all images."""
        table, stored = manifest.table(["image_id", "patient_id", "split"]), activations.table(["feature", "value"])
        x_NF = activation_matrix(stored, width).tocsc()
        max_F = np.asarray(x_NF.max(axis=0).todense()).ravel().astype(np.float64)
        shares_NF = x_NF @ sparse.diags_array(1 / np.where(max_F > 0, max_F, 1))
        ids, patients, splits = (column(table, name) for name in ("image_id", "patient_id", "split"))
        ok_N = stored["feature"].is_valid().to_numpy(zero_copy_only=False).astype(bool)
        return cls(ids, patients, splits, ok_N, sparse.csc_array(shares_NF), max_F)

    def strongest(self, matches: list[Match], n: int, among: Among | str | None = None) -> list[FoundImage]:
        """Return the `n` images with the highest score, one of each patient; fewer if fewer show any of the features.

        An image's score is the mean of its activations, each as a share of the feature's largest, weighted by the
        features' match: 1 for an image in which all of them are at their largest. `among` may be a split.
        """
        if not matches:
            return []
        features = [match.feature for match in matches]
        weight_J = np.array([match.score for match in matches])
        score_N = self._shares(features) @ (weight_J / weight_J.sum())
        return self._ranked(score_N, features, n, among)

    def alike(self, matches: list[Match], n: int, among: Among | str | None = None) -> list[FoundImage]:
        """Return images by SAIL's rule: the cosine, on these features alone, with their mean activations over five
        images of naming patients (`fingerprint`). How strong an image is plays no part."""
        if not matches:
            return []
        features = [match.feature for match in matches]
        x_NJ, print_J = self._shares(features) * self.max_F[features], self.fingerprint(features)
        norm_N = np.linalg.norm(x_NJ, axis=1) * np.linalg.norm(print_J)
        score_N = np.divide(x_NJ @ print_J, norm_N, out=np.zeros(len(norm_N)), where=norm_N > 0)
        return self._ranked(score_N, features, n, among)

    def inactive(self, n: int, among: Among) -> list[FoundImage]:
        """Return images in one random order, of those on which the excluded features are inactive, with score 0."""
        order = np.random.default_rng(0).permutation(len(self.image_N))
        return self._first(order[self._allowed(among)[order]], np.zeros(len(order)), [], n)

    def fingerprint(self, features: Sequence[int]) -> Floats:
        """Return each feature's mean activation over its five images: of the 20 strongest naming images, one of each
        patient, those whose codes are least alike."""
        rows_N = np.flatnonzero((self.split_N == "naming") & self.ok_N)
        x_nF = sparse.csr_array(self.x_NF[rows_N])
        values = []
        for feature in features:
            value_n = x_nF[:, [feature]].toarray().ravel() * self.max_F[feature]
            order = np.argsort(-value_n, kind="stable")[: int((value_n > 0).sum())]
            _, first = np.unique(self.patient_N[rows_N[order]].astype(str), return_index=True)
            top = order[np.sort(first)][:STRONGEST]
            codes = sparse.csr_array(x_nF[top] @ sparse.diags_array(self.max_F))
            values.append(float(value_n[top[diverse(codes, SHOWN)]].mean()) if len(top) else 0.0)
        return np.array(values)

    def _shares(self, features: Sequence[int]) -> Floats:
        return np.asarray(self.x_NF[:, list(features)].toarray(), dtype=np.float64)

    def _allowed(self, among: Among | str | None) -> np.ndarray:
        chosen = among if isinstance(among, Among) else Among(among)
        allowed_N = self.ok_N.copy() if chosen.split is None else self.ok_N & (self.split_N == chosen.split)
        if len(chosen.without):
            allowed_N &= ~(self._shares(chosen.without) > 0).any(axis=1)
        return allowed_N if chosen.kept_N is None else allowed_N & chosen.kept_N

    def _ranked(self, score_N: Floats, features: list[int], n: int, among: Among | str | None) -> list[FoundImage]:
        score_N = np.where(self._allowed(among), score_N, 0.0)
        order = np.argsort(-score_N, kind="stable")[: int((score_N > 0).sum())]
        return self._first(order, score_N, features, n)

    def _first(self, order: np.ndarray, score_N: Floats, features: list[int], n: int) -> list[FoundImage]:
        """Return the first `n` rows of an order that are of different patients."""
        _, first = np.unique(self.patient_N[order].astype(str), return_index=True)
        rows = order[np.sort(first)[:n]]
        shares_nJ = self.x_NF[rows][:, features].toarray().astype(np.float64)
        return [self._image(row, score_N[row], features, share_J) for row, share_J in zip(rows, shares_nJ, strict=True)]

    def _image(self, row: int, score: float, features: list[int], share_J: Floats) -> FoundImage:
        shown: list[ActiveFeature] = [
            {"feature": feature, "activation": float(share * self.max_F[feature])}
            for feature, share in zip(features, share_J, strict=True)
            if share > 0
        ]
        ids: tuple[str, str] = (self.image_N[row], self.split_N[row])
        return {"image_id": ids[0], "split": ids[1], "score": float(score), "features": shown}
