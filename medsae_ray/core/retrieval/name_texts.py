"""The texts by which features are found: their names of all sources."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from medsae_ray.core.artifacts.artifact import Artifact

NAME_TABLES = ("names", "label_names", "vocabulary_names")


class NameTexts(NamedTuple):
    """The texts of each feature's names of all sources. Names that the test rejected are left out if the feature has
    another."""

    whole: dict[int, str]
    """Names with their definitions and alternatives."""
    names: dict[int, str]
    rejected: frozenset[int]
    """The features whose every name the test rejected."""


def name_texts(artifacts: Mapping[str, Artifact]) -> NameTexts:
    """Read the names of a run."""
    rows = pa.concat_tables([artifacts[name].table() for name in NAME_TABLES if name in artifacts])
    rejected = _rejected(artifacts["scores"].table() if "scores" in artifacts else None)
    held, fallen = defaultdict[int, list[dict[str, Any]]](list), defaultdict[int, list[dict[str, Any]]](list)
    for row in rows.filter(rows["name"].is_valid()).to_pylist():
        (fallen if (row["feature"], row["source"]) in rejected else held)[row["feature"]].append(row)
    shown = fallen | held
    return NameTexts(
        {feature: " ".join(text for row in own for text in _texts(row)) for feature, own in shown.items()},
        {feature: "; ".join(row["name"] for row in own) for feature, own in shown.items()},  # ";" ends a negation
        frozenset(fallen.keys() - held.keys()),
    )


def _texts(row: Mapping[str, Any]) -> list[str]:
    return [row["name"], row["definition"] or "", *row["alternatives"]]


def _rejected(scores: pa.Table | None) -> set[tuple[int, str]]:
    rows = scores.select(["feature", "source", "verdict"]).to_pylist() if scores else []
    return {(row["feature"], row["source"]) for row in rows if row["verdict"] == "rejected"}
