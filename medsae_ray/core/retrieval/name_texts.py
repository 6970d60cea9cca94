"""The texts by which features are found: their names of all sources."""

from collections.abc import Mapping

import pyarrow as pa

from medsae_ray.core.artifacts.artifact import Artifact

NAME_TABLES = ("names", "label_names", "vocabulary_names")


def name_texts(artifacts: Mapping[str, Artifact], names_only: bool = False) -> dict[int, str]:
    """Return each feature's names of all sources, with definitions and alternatives unless `names_only`.

    Names that the test rejected are left out if the feature has another.
    """
    held, fallen = _texts(artifacts, names_only)
    mark = "; " if names_only else " "  # a mark ends the negation of a name
    return {feature: mark.join(words) for feature, words in (fallen | held).items()}


def rejected_features(artifacts: Mapping[str, Artifact]) -> frozenset[int]:
    """Return the features whose every name the test rejected."""
    held, fallen = _texts(artifacts, names_only=True)
    return frozenset(fallen.keys() - held.keys())


def _texts(artifacts: Mapping[str, Artifact], names_only: bool) -> tuple[dict[int, list[str]], dict[int, list[str]]]:
    rows = pa.concat_tables([artifacts[name].table() for name in NAME_TABLES if name in artifacts])
    rejected = _rejected(artifacts["scores"].table() if "scores" in artifacts else None)
    held, fallen = dict[int, list[str]](), dict[int, list[str]]()
    for row in rows.filter(rows["name"].is_valid()).to_pylist():
        texts = fallen if (row["feature"], row["source"]) in rejected else held
        said = [row["name"], *([] if names_only else [row["definition"] or "", *row["alternatives"]])]
        texts.setdefault(row["feature"], []).extend(said)
    return held, fallen


def _rejected(scores: pa.Table | None) -> set[tuple[int, str]]:
    rows = scores.select(["feature", "source", "verdict"]).to_pylist() if scores else []
    return {(row["feature"], row["source"]) for row in rows if row["verdict"] == "rejected"}
