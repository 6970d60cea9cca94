"""What stage `monosemanticity` stores: the schema of its rows, and the figures of its record."""

from typing import NotRequired, TypedDict

import pyarrow as pa


def rows() -> pa.Schema:
    """One row per unit of each space: "sae" (a feature), "raw" (an encoder dimension) or "untrained" (a feature of the
    SAE before training).

    `coherence`, `specificity` and `score` = max(0, coherence - null) * specificity are SAIL's, of the labels of the
    `images` strongest images of held-out patients. `similarity` is the Monosemanticity Score of Pach et al., with its
    deviation under shuffled embeddings, `entropy` that of the features table. `purity` is the share of the strongest
    images of test patients that have `best_label` (or, where `best_r` is negative, lack it), and `purity_null` that of
    all test patients. Where a value is null, `reason` says why.
    """
    reals = ("coherence", "specificity", "score", "similarity", "similarity_null_sd", "entropy", "purity")
    return pa.schema(
        [
            pa.field("space", pa.string(), nullable=False),
            pa.field("feature", pa.int32(), nullable=False),
            pa.field("images", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64()) for name in (*reals, "purity_null")),
            pa.field("best_label", pa.string()),
            pa.field("best_r", pa.float64()),
            pa.field("reason", pa.string()),
        ]
    )


class MeanFigures(TypedDict):
    """Means over units; None if there are not so many."""

    mean: float | None
    """Over all units that have a value."""
    top_10: float | None
    """Over the ten best of them: the lowest, of an entropy."""
    top_50: float | None


class MeasureFigures(TypedDict):
    """A measure over the units of a space, and the same means where only chance is left."""

    units: int
    """That have a value."""
    found: MeanFigures
    null: MeanFigures
    null_sd: MeanFigures
    """The deviation of single draws of chance."""


class SpaceFigures(TypedDict):
    """The measures of the units of a space."""

    score: MeasureFigures
    """SAIL's coherence above its null, times specificity."""
    similarity: MeasureFigures
    """The Monosemanticity Score of Pach et al."""
    purity: MeasureFigures
    entropy: MeasureFigures


class MonosemanticityMetrics(TypedDict):
    """Stage `monosemanticity`."""

    images: int
    """The strongest images of a unit that are judged."""
    labels: int
    """That are known of some held-out image."""
    coherence_null: float | None
    """The coherence of images drawn at random: the mean over all pairs."""
    coherence_null_subsets: float | None
    """SAIL's estimate of it, from random subsets, with its deviation."""
    coherence_null_sd: float | None
    similarity_null: float | None
    """The similarity of images drawn at random: the mean cosine of all pairs."""
    similarity_by: NotRequired[str]
    """The kind of another encoder whose embeddings tell how alike images are; without it they are the run's own."""
    spaces: dict[str, SpaceFigures]
    """"sae", "raw" and "untrained"."""
