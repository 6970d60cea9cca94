"""The answer to a query in words: the features nearest to it, and the images that show them most.

This is the language-driven retrieval of SAIL (github.com/pwesp/sail): the query becomes a few features, and images are
found by these. SAIL lets a language model pick three from the list of names, and compares images by their cosine on the
three; here features are found by the encoder's own text half, or by the words of their names, and images by the
strength of the features, which a cosine ignores.

Legend: N images, F features, J features of an answer, D embedding dimension, K null directions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self, cast

import numpy as np
import pyarrow as pa
from scipy import sparse

from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import activation_matrix, column
from medsae_ray.core.naming.alignment import Space, exceedance
from medsae_ray.core.naming.vocabulary import Texts, embed_terms
from medsae_ray.core.retrieval.answer import ActiveFeature, FoundFeature, FoundImage, QueryAnswer
from medsae_ray.core.retrieval.bm25 import Documents

NAME_TABLES = ("names", "label_names", "vocabulary_names")
SHOWN = ("name", "name_source", "definition", "verdict", "detection_auroc")
"""The columns of the atlas in an answer."""
BY_TEXT: Final = "text half"
BY_NAMES: Final = "names"
"""The ways to find a query's features: by the encoder's text half, or by the words of names and definitions."""


class Match(NamedTuple):
    """A feature that answers a query."""

    feature: int
    score: float
    """The cosine with the query, or BM25 of the names."""
    p: float | None
    """The chance that a random mixture of features has such a cosine; None for words."""


@dataclass(frozen=True)
class Shelf:
    """The images of a run with their activations, in manifest order."""

    image_N: np.ndarray
    patient_N: np.ndarray
    split_N: np.ndarray
    x_NF: sparse.csc_array
    """The activations, each as a share of its feature's largest."""
    max_F: Floats

    @classmethod
    def of(cls, manifest: Artifact, activations: Artifact, width: int) -> Self:
        """Read ids and splits from the manifest; scale each feature's activations by its maximum over all images."""
        table = manifest.table(["image_id", "patient_id", "split"])
        x_NF = activation_matrix(activations.table(["feature", "value"]), width).tocsc()
        max_F = np.asarray(x_NF.max(axis=0).todense()).ravel().astype(np.float64)
        shares_NF = x_NF @ sparse.diags_array(1 / np.where(max_F > 0, max_F, 1))
        ids, patients, splits = (column(table, name) for name in ("image_id", "patient_id", "split"))
        return cls(ids, patients, splits, sparse.csc_array(shares_NF), max_F)

    def strongest(self, matches: list[Match], n: int, split: str | None = None) -> list[FoundImage]:
        """Return the `n` images with the highest score, one of each patient; fewer if fewer show any of the features.

        An image's score is the mean of its activations, each as a share of the feature's largest, weighted by the
        features' match: 1 for an image in which all of them are at their largest.
        """
        if not matches:
            return []
        features = [match.feature for match in matches]
        weight_J = np.array([match.score for match in matches])
        shares_NJ = self.x_NF[:, features].toarray().astype(np.float64)
        score_N = shares_NJ @ (weight_J / weight_J.sum())
        if split is not None:
            score_N = np.where(self.split_N == split, score_N, 0.0)
        order = np.argsort(-score_N, kind="stable")[: int((score_N > 0).sum())]
        _, first = np.unique(self.patient_N[order].astype(str), return_index=True)
        return [self._image(row, score_N[row], features, shares_NJ[row]) for row in order[np.sort(first)[:n]]]

    def _image(self, row: int, score: float, features: list[int], share_J: Floats) -> FoundImage:
        shown: list[ActiveFeature] = [
            {"feature": feature, "activation": float(share * self.max_F[feature])}
            for feature, share in zip(features, share_J, strict=True)
            if share > 0
        ]
        ids: tuple[str, str] = (self.image_N[row], self.split_N[row])
        return {"image_id": ids[0], "split": ids[1], "score": float(score), "features": shown}


class TextSide(NamedTuple):
    """The encoder's text half and the SAE's directions."""

    encoder: Texts
    templates: list[str]
    space: Space
    null_KD: Floats
    """The random directions of the null."""

    def hear(self, text: str) -> tuple[Floats, Floats]:
        """Return cosines of a text with all features [F], and with the null directions [K]."""
        text_D = self.space.texts(embed_terms(self.encoder, [text], self.templates))[0]
        return self.space.direction_FD @ text_D, self.null_KD @ text_D


class Library:
    """The data for queries to one finished run: the artifacts behind its atlas, and perhaps a text half."""

    def __init__(self, artifacts: Mapping[str, Artifact], listener: TextSide | None = None) -> None:
        self._artifacts, self._listener = artifacts, listener
        atlas = artifacts["atlas"].table(["feature", "n_active", *SHOWN]).sort_by("feature")
        self._atlas: list[dict[str, Any]] = atlas.to_pylist()
        self._alive_F = np.array([row["n_active"] > 0 for row in self._atlas])
        self.shelf = Shelf.of(artifacts["manifest"], artifacts["activations"], len(self._atlas))
        self._documents = Documents(name_texts(artifacts))

    def ask(self, text: str, features: int = 3, images: int = 10, split: str | None = None) -> QueryAnswer:
        """Return the features that answer a query and the images that show them most, as plain values.

        `way` is "text half", or "names" if the run has no text half. The answer is empty if no feature has a positive
        cosine, or a word of the query in its names.
        """
        matches = self.matches(text, features)
        return {
            "query": text,
            "way": BY_TEXT if self._listener else BY_NAMES,
            "features": [self._feature(match) for match in matches],
            "images": self.shelf.strongest(matches, images, split),
            "sae": self._artifacts["sae"].name,
            "atlas": self._artifacts["atlas"].name,
        }

    def _feature(self, match: Match) -> FoundFeature:
        shown = {key: self._atlas[match.feature][key] for key in SHOWN}
        return cast(FoundFeature, match._asdict() | shown)

    def matches(self, text: str, n: int) -> list[Match]:
        """Return the `n` features that answer a query best, or as many as there are."""
        return self._by_text(text, n) if self._listener else self._by_names(text, n)

    def _by_names(self, text: str, n: int) -> list[Match]:
        found = {f: score for f, score in self._documents.scores(text).items() if self._alive_F[f]}
        return [Match(f, found[f], None) for f in sorted(found, key=lambda f: (-found[f], f))[:n]]

    def _by_text(self, text: str, n: int) -> list[Match]:
        assert self._listener is not None, "called only with a text half"
        cosine_F, null_K = self._listener.hear(text)
        order = np.argsort(np.where(self._alive_F, -cosine_F, np.inf), kind="stable")
        best = [int(f) for f in order[:n] if self._alive_F[f] and cosine_F[f] > 0]
        p_J = exceedance(cosine_F[best], null_K)
        return [Match(f, float(cosine_F[f]), float(p)) for f, p in zip(best, p_J, strict=True)]


def name_texts(artifacts: Mapping[str, Artifact]) -> dict[int, str]:
    """Return each feature's names of all sources, with definitions and alternatives.

    Names that the test rejected are left out if the feature has another.
    """
    rows = pa.concat_tables([artifacts[name].table() for name in NAME_TABLES if name in artifacts])
    rejected = _rejected(artifacts["scores"].table() if "scores" in artifacts else None)
    held, fallen = dict[int, list[str]](), dict[int, list[str]]()
    for row in rows.filter(rows["name"].is_valid()).to_pylist():
        texts = fallen if (row["feature"], row["source"]) in rejected else held
        said = [row["name"], row["definition"] or "", *row["alternatives"]]
        texts.setdefault(row["feature"], []).extend(said)
    return {feature: " ".join(words) for feature, words in (fallen | held).items()}


def _rejected(scores: pa.Table | None) -> set[tuple[int, str]]:
    rows = scores.select(["feature", "source", "verdict"]).to_pylist() if scores else []
    return {(row["feature"], row["source"]) for row in rows if row["verdict"] == "rejected"}
