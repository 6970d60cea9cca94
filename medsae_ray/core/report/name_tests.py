"""The names of one feature, each with its evidence and the figures of its test."""

import json
from collections.abc import Collection
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from medsae_ray.core.artifacts.columns import null_to_nan
from medsae_ray.core.naming.prompts import CONTROL_NAME
from medsae_ray.core.naming.verdict import REJECTED, UNTESTED, VERIFIED
from medsae_ray.core.report.charts import Mark
from medsae_ray.core.report.data import Answers, NamingReport
from medsae_ray.core.report.name_charts import Role, Row, auroc_rows, roc, strip
from medsae_ray.core.report.text import interval, known, real, shorten
from medsae_ray.errors import one_line

SOURCES = {"vlm": "vision-language model", "label": "label", "vocabulary": "vocabulary"}
"""The words for each source of a name, in the order of the page."""
ROLES = {
    "bin4": "strongest fifth",
    "bin3": "fourth fifth",
    "bin2": "middle fifth",
    "bin1": "second fifth",
    "bin0": "weakest fifth",
    "equal": "inactive, as strong",
    "hard": "inactive, look-alike",
    "matched": "inactive, matched",
}
LONGEST_EVIDENCE = 3000


class NameEvidence(NamedTuple):
    """The evidence of a source for its name: the lists of a reply, or else its text."""

    per_image: list[str]
    shared_in_a: list[str]
    absent_in_b: list[str]
    text: str

    @property
    def lists(self) -> bool:
        """True if the source gave lists."""
        return any((self.per_image, self.shared_in_a, self.absent_in_b))


class NameTest(NamedTuple):
    """The name of one feature from one source, or the reason for its lack."""

    row: dict[str, Any]
    """The row of `schema.names()`."""
    score: dict[str, Any]
    """The row of `verdict.scores()`; empty without a score."""
    evidence: NameEvidence
    roc: Markup
    strip: Markup
    controls: Markup

    @property
    def verdict(self) -> str:
        """The verdict of the test, or the naming status of a name that was not tested."""
        return str(self.score.get("verdict") or self.row["status"])

    @property
    def tested(self) -> bool:
        """True if questions were asked; an untested name may have answers without a verdict."""
        asked = self.score.get("n_pos", 0) > 0
        return self.verdict in (VERIFIED, REJECTED) or (self.verdict == UNTESTED and asked)


def tests_of(naming: NamingReport, features: Collection[int]) -> dict[int, list[NameTest]]:
    """Return the names of each feature: the model's, the label's, the vocabulary's."""
    rows, scores = (_of(table, features) for table in (naming.names, naming.scores))
    score_of = {(score["feature"], score["source"]): score for score in scores}
    found: dict[int, list[NameTest]] = {feature: [] for feature in features}
    for row in sorted(rows, key=lambda row: [*SOURCES, row["source"]].index(row["source"])):
        answers = naming.answers.get(row["feature"]) if row["source"] == "vlm" else None
        found[row["feature"]].append(_test(row, score_of.get((row["feature"], row["source"]), {}), answers))
    return found


def _of(table: pa.Table, features: Collection[int]) -> list[dict[str, Any]]:
    wanted = pa.array(sorted(features), pa.int32())
    rows: list[dict[str, Any]] = table.filter(pc.is_in(table["feature"], value_set=wanted)).to_pylist()
    return rows


def _test(row: dict[str, Any], score: dict[str, Any], answers: Answers | None) -> NameTest:
    points = roc_points(answers) if answers else []
    return NameTest(
        row=row,
        score=score,
        evidence=read_evidence(row["evidence"]),
        roc=roc(points, score.get("auroc")) if points else Markup(),
        strip=strip(roles(answers)) if answers else Markup(),
        controls=auroc_rows(_controls(score)) if known(score.get("auroc")) else Markup(),
    )


def read_evidence(text: str) -> NameEvidence:
    """Return a reply's lists without non-printing characters; another text unchanged, or shortened if it is long."""
    try:
        reply = json.loads(text)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        return NameEvidence([], [], [], shorten(one_line(text), LONGEST_EVIDENCE))
    return NameEvidence(_lines(reply, "per_image"), _lines(reply, "shared_in_a"), _lines(reply, "absent_in_b"), "")


def _lines(reply: dict[str, Any], key: str) -> list[str]:
    said = reply.get(key)
    return [one_line(line) for line in said if isinstance(line, str)] if isinstance(said, list) else []


def roles(answers: Answers) -> list[Role]:
    """Return the answers by role, strongest activation first, inactive images last, and known roles in words."""
    order = [*ROLES, *sorted(set(answers.role) - set(ROLES))]
    triples = list(zip(answers.role, answers.y, answers.p_yes, strict=True))
    of = {role: [(y, p) for name, y, p in triples if name == role] for role in order if role in answers.role}
    return [Role(ROLES.get(role, role), any(y for y, _ in pairs), [p for _, p in pairs]) for role, pairs in of.items()]


def roc_points(answers: Answers) -> list[tuple[float, float]]:
    """Return (share of inactive images, share of active images) at or above each p(yes), from (0, 0) to (1, 1).

    As in the score, a missing answer ranks worse than any other. Empty without active or without inactive images.
    """
    p_n, y_n = np.array(answers.p_yes, dtype=np.float64), np.array(answers.y)
    p_n = np.where(np.isnan(p_n), np.where(y_n == 1, -1.0, 2.0), p_n)
    active, silent = (y_n == 1).sum(), (y_n == 0).sum()
    if not active or not silent:
        return []
    cuts = np.unique(p_n)[::-1]
    above = [(float((p_n[y_n == 0] >= c).sum() / silent), float((p_n[y_n == 1] >= c).sum() / active)) for c in cuts]
    return [(0.0, 0.0), *above]


def _controls(score: dict[str, Any]) -> list[Row]:
    """Return the rows of the name and its controls."""
    name = Mark(score["auroc"], null_to_nan(score["low"]), null_to_nan(score["high"]), "name")
    mean = null_to_nan(score["null_mean"])
    random = Mark(mean, mean, null_to_nan(score["null_max"]), "plain")
    largest = f", max {real(score['null_max'], 2)}" if known(score["null_max"]) else ""
    single = [
        (f"“{CONTROL_NAME}”", score["trivial"]),
        (f"label: {score['best_label']}" if score["best_label"] else "no label", score["label_auroc"]),
        (f"metadata: {score['best_metadata']}" if score["best_metadata"] else "no metadata", score["metadata_auroc"]),
        (_best(score), score["control_auroc"]),
        ("ceiling of this label", score["ceiling"]),
    ]
    return [
        Row("this name", name, f"{real(score['auroc'], 2)} {interval(score['low'], score['high'])}"),
        Row("random names", random, real(score["null_mean"], 2) + largest),
        *(Row(said, Mark(null_to_nan(value), np.nan, np.nan, "plain"), real(value, 2)) for said, value in single),
    ]


def _best(score: dict[str, Any]) -> str:
    return f"best control: {score['best_control']}" if score["best_control"] else "best control"
