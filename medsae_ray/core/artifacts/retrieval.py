"""What stage `retrieval` stores: the schema of its rows, and the figures of its record."""

from typing import TypedDict

import pyarrow as pa

FIGURES = ("cosine", "precision_5", "precision_10", "average_precision")


def rows() -> pa.Schema:
    """One row per way to search, size of fingerprint and label, and one without a label for `cosine`.

    `method` is "sparse", "rarity", "dense" (fingerprints of `k` coordinates), "whole" (the cosine of embeddings) or
    "random". Means over `references`, those with the label; `left_out` had no fingerprint of k coordinates. `cosine`
    is of whole embeddings with the five nearest images, precision and average precision count images with the label
    among the first five and ten. `chance` is the label's prevalence. Without figures `lacking` says what is missing.
    """
    figures = [pa.field(f"{figure}{end}", pa.float64()) for figure in FIGURES for end in ("", "_low", "_high")]
    return pa.schema(
        [
            pa.field("method", pa.string(), nullable=False),
            pa.field("k", pa.int32()),
            pa.field("label", pa.string()),
            pa.field("references", pa.int64(), nullable=False),
            pa.field("left_out", pa.int64(), nullable=False),
            pa.field("chance", pa.float64()),
            *figures,
            pa.field("lacking", pa.string()),
        ]
    )


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
