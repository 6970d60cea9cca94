"""The atlas in memory: a page of features, or one feature with all its evidence."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.columns import column, with_null
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.core.artifacts.name_metrics import AtlasMetrics
from medsae_ray.service.errors import Problem

Sort = Literal[
    "feature",
    "n_active",
    "frequency",
    "mean_active",
    "max",
    "entropy",
    "best_r",
    "auroc",
    "detection_auroc",
    "detection_accuracy",
]
Verdict = Literal["verified", "rejected", "untested", "insufficient_support", "abstained", "failed", "dead"]
NAME = ["name", "name_source", "definition", "verdict", "detection_auroc", "detection_low", "detection_high"]
NUMBERS = ["n_active", "frequency", "mean_active", "max", "entropy", "best_label", "best_r", "auroc"]


class Query(NamedTuple):
    """A choice of features, and their order."""

    page: int = 1
    size: int = 50
    sort: Sort = "feature"
    descending: bool = False
    verdict: Verdict | None = None
    text: str | None = None
    """A part of a name or definition, in any case."""
    label: str | None = None
    """The dataset's label that a feature correlates with most."""


class Atlas:
    """Rows of the atlas artifact as plain values; NaN becomes None."""

    def __init__(self, artifact: Artifact) -> None:
        self._table = artifact.table()
        self.labels = metrics_of(artifact, AtlasMetrics)["labels"]
        self._row_of = {feature: row for row, feature in enumerate(self._table["feature"].to_pylist())}
        order = [self._row_of[feature] for feature in sorted(self._row_of)]
        self.rates = column(self._table, "frequency")[order]
        """The share of the run's images on which each feature is active, in the order of their numbers."""

    def page(self, query: Query) -> tuple[int, list[dict[str, Any]]]:
        """Count the features that fit, and return those of the page. Features without the sorting value come last."""
        table = self._table.select(["feature", *NAME, *NUMBERS, "detection_accuracy"])
        for condition in self._conditions(query):
            table = table.filter(condition)
        order = "descending" if query.descending else "ascending"
        keys = [(query.sort, order)] + ([("feature", "ascending")] if query.sort != "feature" else [])
        first = (query.page - 1) * query.size
        rows = pc.sort_indices(table, sort_keys=keys)[first : first + query.size]
        return table.num_rows, [with_null(row) for row in table.take(rows).to_pylist()]

    def one(self, feature: int) -> dict[str, Any]:
        """Return everything in the atlas on a feature. Problem if there is none of that number."""
        row = self._row(self._table, feature)
        per_label = zip(self.labels, row.pop("r"), row.pop("r_low"), row.pop("r_high"), strict=True)
        tops = zip(row.pop("top_images"), row.pop("top_values"), strict=True)
        return with_null(row) | {
            "correlations": [with_null({"label": label, "r": r, "low": a, "high": b}) for label, r, a, b in per_label],
            "top_images": [{"image_id": image_id, "activation": value} for image_id, value in tops],
        }

    def name(self, feature: int) -> dict[str, Any]:
        """Return a feature's number, name and test. Problem if there is none of that number."""
        return with_null(self._row(self._table.select(["feature", *NAME]), feature))

    def verdicts(self) -> dict[int, str | None]:
        """Return the verdict on the name of each feature."""
        return dict(zip(self._row_of, self._table["verdict"].to_pylist(), strict=True))

    def _row(self, table: pa.Table, feature: int) -> dict[str, Any]:
        if feature not in self._row_of:
            raise Problem(404, "not_found", f"there is no feature {feature}; they are 0 to {len(self._row_of) - 1}")
        row: dict[str, Any] = table.slice(self._row_of[feature], 1).to_pylist()[0]
        return row

    def _conditions(self, query: Query) -> Iterator[pc.Expression]:
        if query.label is not None and query.label not in self.labels:
            raise Problem(422, "invalid", f"the labels are {', '.join(self.labels)}", "query.label")
        if query.verdict is not None:
            yield pc.field("verdict") == query.verdict
        if query.label is not None:
            yield pc.field("best_label") == query.label
        if query.text is not None:
            name, definition = (_contains(column, query.text) for column in ("name", "definition"))
            yield name | definition


def _contains(column: str, text: str) -> pc.Expression:
    return pc.match_substring(pc.field(column), text, ignore_case=True)
