"""What stage `likeness` stores: the schema of its rows, the figures of its record, and its answer on one image."""

from typing import NotRequired, TypedDict

import pyarrow as pa


def rows() -> pa.Schema:
    """One row per image, in the order of the manifest.

    `distance` is that of its whitened embedding from the tenth nearest of at most 2,000 images that the SAE was trained
    on; null without an embedding, or if embeddings do not vary. Images of the split sae lie nearer than others, as the
    whitening is fitted on them.
    """
    return pa.schema([pa.field("image_id", pa.string(), nullable=False), pa.field("distance", pa.float64())])


class UnlikeShare(TypedDict):
    """The images of the split detection that are flagged as unlike the run."""

    patients: int
    """The patients, each of whom counts once: his images share the weight."""
    share: float | None
    """The share that is flagged; None without a threshold."""
    low: float | None
    """Its interval, whose n is the number of patients."""
    high: float | None


class LikenessSummary(TypedDict):
    """Which images are unlike those of the run."""

    level: float
    """The share of new patients' images that the threshold lets pass."""
    threshold: float | None
    """The distance above which an image is flagged; None if there are too few patients to know it."""
    fitted: int
    """The images that the estimator is fitted on, those of the split sae."""
    reference: int
    """The patients of the split naming, whose distances give percentiles and the threshold."""
    detection: UnlikeShare
    by_dataset: NotRequired[dict[str, UnlikeShare]]
    """The same in each of several datasets."""


class LikenessMetrics(LikenessSummary):
    """Stage `likeness`."""

    shrinkage: float
    """The weight of the identity in the covariance."""


class UnlikeTheRun(TypedDict):
    """The place of one image's embedding among those of the run."""

    flag: bool | None
    """True if the distance is above the threshold; None if there is no threshold."""
    distance: float
    """The distance of its whitened embedding from the tenth nearest of images that the SAE was trained on."""
    percentile: float
    """The share of held-out images that are nearer, from 0 to 100: of patients of the split naming, each of whom counts
    once."""
    threshold: float | None
