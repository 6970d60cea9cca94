"""What a query to a finished run is answered with: plain values, as they are written as JSON."""

from typing import Literal, TypedDict


class FoundFeature(TypedDict):
    """A feature that answers the query."""

    feature: int
    score: float
    """Cosine with the query (way "text half"), or BM25 of its names."""
    p: float | None
    """The chance that a random mixture of features has such a cosine; None for way "names"."""
    name: str | None
    name_source: str | None
    """Whose name it is: vlm, label or vocabulary."""
    definition: str | None
    verdict: str | None
    """What the test of the name said, if there was one."""
    detection_auroc: float | None


class ActiveFeature(TypedDict):
    """A feature of the answer, on one image."""

    feature: int
    activation: float


class FoundImage(TypedDict):
    """An image that shows the features."""

    image_id: str
    split: str
    score: float
    """1 where all features of the answer are as strong as they ever are."""
    features: list[ActiveFeature]
    """Those that are active on it."""


class QueryAnswer(TypedDict):
    """Features and images, the best first."""

    query: str
    way: Literal["text half", "names"]
    """How features were found: by the encoder's text half, or by the words of their names."""
    features: list[FoundFeature]
    images: list[FoundImage]
    """One of each patient."""
    sae: str
    """Names of the artifacts that answered."""
    atlas: str
