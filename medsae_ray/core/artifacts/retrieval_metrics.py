"""The figures in the record of stage `retrieval`."""

from typing import TypedDict


class RetrievalFigures(TypedDict):
    """A way to search, as means; None where there is no figure."""

    method: str
    k: int | None
    cosine: float | None
    """The cosine of whole embeddings with the five nearest images."""
    precision_10: float | None
    """The precision at ten, a mean over `labels`."""
    average_precision: float | None
    chance: float | None
    """The prevalence, a mean over the same labels."""
    labels: int
    """The labels that have a figure."""


class RetrievalExample(TypedDict):
    """An image and its five nearest, by ids."""

    image_id: str
    k: int
    sparse: list[str]
    """By its k strongest features."""
    whole: list[str]
    """By the cosine of whole embeddings."""


class RetrievalSummary(TypedDict):
    """How alike the images are that a search finds."""

    references: int
    """The images that were searched for, one of each test patient."""
    candidates: int
    """The images among which they were searched for: those of patients that the SAE was not trained on."""
    patients: int
    """The patients of these."""
    always_active: int
    """The features that are active on every image, and so in no fingerprint."""
    methods: list[RetrievalFigures]


class RetrievalMetrics(RetrievalSummary):
    """Stage `retrieval`."""

    examples: list[RetrievalExample]
