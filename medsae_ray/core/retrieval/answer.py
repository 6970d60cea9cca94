"""The answer to a query of a finished run: plain values, as in its JSON."""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict, get_args

from medsae_ray.core.artifacts.likeness import UnlikeTheRun

Way = Literal["text half", "names", "model"]
"""The ways to find a query's features: by the encoder's text half, by the words of names and definitions, or by a model
that picks names."""
Ranking = Literal["strength", "cosine"]
"""The order of images: by the strength of the features, or by SAIL's cosine."""
WAYS, RANKINGS = get_args(Way), get_args(Ranking)


class Named(TypedDict):
    """A feature with its strongest name."""

    feature: int
    name: str | None
    name_source: str | None
    """The source of the name: vlm, label or vocabulary."""
    definition: str | None
    name_verdict: str | None
    """The verdict of the name's test on the run's images, if there was one: it says nothing of another image."""
    detection_auroc: float | None


COLUMNS = ("name", "name_source", "definition", "verdict", "detection_auroc")
"""The columns of the atlas that an answer shows."""


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what an answer shows of a row of the atlas, besides the feature's number."""
    return {"name_verdict" if column == "verdict" else column: row[column] for column in COLUMNS}


class FoundFeature(Named):
    """A feature that answers the query."""

    score: float
    """The cosine with the query (way "text half"), BM25 of the names, or the weight of a pick."""
    p: float | None
    """The chance that a random mixture of features has such a cosine; None for way "names"."""


class ActiveFeature(TypedDict):
    """A feature of the answer, on one image."""

    feature: int
    activation: float


class FoundImage(TypedDict):
    """An image that shows the features."""

    image_id: str
    split: str
    score: float
    """The score: 1 if all features of the answer are at their largest activation, or SAIL's cosine; 0 if the query only
    excludes."""
    features: list[ActiveFeature]
    """The features that are active on it."""


class QueryAnswer(TypedDict):
    """The features and images, the best first."""

    query: str
    way: Way
    ranking: Ranking
    features: list[FoundFeature]
    excluded: list[Named]
    """The features of what the query negates; no image has them."""
    conditions: dict[str, str]
    """The metadata that the images have to have, as sex or view (way "model")."""
    unmet: list[str]
    """The words of the query that no name says, as the model has it."""
    refused: str | None
    """The reason why the query is not answered."""
    images: list[FoundImage]
    """The images, one of each patient."""
    model: str | None
    """The model that picked."""
    sae: str
    """The names of the artifacts that answered."""
    atlas: str


class NamedFeature(Named):
    """A feature of an image's fingerprint, with its strongest name."""

    activation: float
    percentile: float
    """The share of the images that activate the feature on which it is no stronger, from 0 to 100."""


class SimilarImage(TypedDict):
    """An image that shares features with the one asked for."""

    image_id: str
    split: str
    similarity: float
    """The cosine on the fingerprint's features; of a single one 1 / (1 + |difference|)."""
    features: list[ActiveFeature]
    """The features that both have, with the found image's activations."""


class SimilarAnswer(TypedDict):
    """The images that share an image's strongest features, the most similar first."""

    image: str
    k: int
    features: list[NamedFeature]
    """The image's fingerprint, its strongest feature first."""
    images: list[SimilarImage]
    """The images, one of each patient and none of the image's own."""
    reason: str | None
    """The reason why there are no images, or why k is smaller than asked for."""
    unlike_the_run: UnlikeTheRun | None
    """The image's place among the embeddings of the run; None without the artifact `likeness`."""
    sae: str
    """The names of the artifacts that answered."""
    atlas: str
