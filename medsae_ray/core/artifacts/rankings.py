"""What stage `rankings` stores: the schema of its rows, and the figures of its record."""

from typing import Literal, TypedDict

import pyarrow as pa

from medsae_ray.core.artifacts.name_metrics import Sight, UsageFigures


def rows() -> pa.Schema:
    """One row per feature and arm (`images`, `metadata`, `both`), and, with `feature` null, per label asked about.

    `name` was given from `named_from` and judged on `judged_on`, with the names of the features `rivals` (null for
    labels), in the order of `names`, whose letters are A to E. `answer` is the reply to the ranking as it came,
    `ranking` its letters, `rank` that of the true name. Without a rank `reason` says what is missing.
    """
    texts = pa.list_(pa.field("item", pa.string(), nullable=False))
    return pa.schema(
        [
            pa.field("feature", pa.int32()),
            pa.field("arm", pa.string(), nullable=False),
            pa.field("status", pa.string(), nullable=False),
            pa.field("name", pa.string()),
            pa.field("named_from", texts),
            pa.field("judged_on", texts),
            pa.field("rivals", pa.list_(pa.field("item", pa.int32(), nullable=False))),
            pa.field("names", texts),
            pa.field("letter", pa.string()),
            pa.field("answer", pa.string()),
            pa.field("ranking", pa.string()),
            pa.field("rank", pa.int32()),
            pa.field("reason", pa.string()),
        ]
    )


Status = Literal["ranked", "unparsed", "failed", "unnamed", "few_rivals", "insufficient_support"]
"""The outcome of a row: ranked; the ranking could not be read; no answer came; there is no name; fewer than four other
names; or too few patients."""


class SailFigures(TypedDict):
    """The figures as SAIL's code counts: an unreadable ranking is the order in which the names were shown."""

    n: int
    success: float | None
    mean_rank: float | None


class RankFigures(TypedDict):
    """The ranks of true names among five; without a ranking all but the counts are None."""

    ranked: int
    unparsed: int
    """Rankings that could not be read, in no figure here."""
    failed: int
    """Rankings that did not come."""
    successes: int
    """True names of rank 1 or 2."""
    success: float | None
    success_low: float | None
    success_high: float | None
    """Wilson's interval at 95 %."""
    chance: float
    mean_rank: float | None
    mean_rank_chance: float
    rank_counts: list[int]
    """The true names of rank 1 to 5."""
    same_order: float | None
    """The share of the commonest ranking by letters: near 1 for a model that answers without reading."""
    sail: SailFigures


class ArmFigures(RankFigures):
    """One arm."""

    named: int
    distinct_names: int
    unnamed: int
    few_rivals: int
    insufficient_support: int
    labels: RankFigures
    """The same for labels, on images that are annotated with them: can the model rank at all?"""
    sight: Sight
    doubt: str | None
    """The reason why the arm's figure says nothing of its names; None if there is none."""


class RankingsMetrics(TypedDict):
    """Stage `rankings`."""

    features: int
    """The features that were to be named."""
    columns: list[str]
    """The columns of metadata that the model was shown."""
    labels_shown: bool
    """True if it was also shown which labels are annotated."""
    arms: dict[str, ArmFigures]
    usage: UsageFigures
