"""The section on names: counts, one row per label, and their meaning in plain sentences.

No feature is chosen or ordered here: a passed test must not bring a name to the top.
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, NamedTuple

from markupsafe import Markup

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import Finding, absent_name
from medsae_ray.core.report.charts import Mark, auroc_plot
from medsae_ray.core.report.data import NameCounts, NamingReport
from medsae_ray.core.report.name_tests import tests_of
from medsae_ray.core.report.text import count, known, percent, real

VERDICT_WORDS = {
    "verified": "verified",
    "rejected": "rejected",
    "untested": "untested",
    "abstained": "abstained",
    "insufficient_support": "insufficient support",
    "failed": "failed",
    "dead": "dead",
}
FAIR = (0.45, 0.55)
"""The range of the mean AUROC of random names that counts as 0.5."""


class LabelRow(NamedTuple):
    """A label with the model's ceiling for it, and the name of its best feature."""

    label: str
    ceiling: Auroc | None
    feature: int | None
    name: str | None
    verdict: str | None
    score: dict[str, Any]
    """The score of the feature's name; empty if it was not tested."""
    plot: Markup
    seen: bool
    """True if the ceiling's interval, corrected for the number of labels, lies above 0.5."""

    @property
    def asked(self) -> bool:
        """True if the model was asked about the label itself, with a defined AUROC."""
        return self.ceiling is not None and known(self.ceiling.auc)


class NamesSection(NamedTuple):
    """The contents of the section on names."""

    labels: list[LabelRow]
    sentences: list[str]
    engine: str


def names_section(
    naming: NamingReport, labels: Sequence[str], findings: Sequence[Finding], absences: Sequence[Finding] = ()
) -> NamesSection:
    """Build the section; `labels` in the page's order, `findings` of their presence and `absences` of their absence."""
    feature_of = {f.label if f.present else absent_name(f.label): f.feature for f in (*findings, *absences)}
    tests = tests_of(naming, set(feature_of.values()))
    rows, absent = [], {finding.label for finding in absences}
    shown = [[label, absent_name(label)] if label in absent else [label] for label in labels]
    for label in chain.from_iterable(shown):
        test = next((t for t in tests.get(feature_of.get(label, -1), []) if t.row["source"] == "vlm"), None)
        score, ceiling = test.score if test else {}, naming.ceilings.get(label)
        name, verdict = (test.row["name"], test.verdict) if test else (None, None)
        plot, seen = _plot(score, ceiling), label in naming.seen
        rows.append(LabelRow(label, ceiling, feature_of.get(label), name, verdict, score, plot, seen))
    return NamesSection(rows, sentences(naming, rows), engine_sentence(naming))


def _plot(score: dict[str, Any], ceiling: Auroc | None) -> Markup:
    marks = []
    if known(score.get("auroc")):
        low, high = (end if known(end) else math.nan for end in (score["low"], score["high"]))
        marks.append(Mark(score["auroc"], low, high, "name"))
    if ceiling and known(ceiling.auc):
        marks.append(Mark(ceiling.auc, ceiling.low, ceiling.high, "plain"))
    return auroc_plot(marks)


def sentences(naming: NamingReport, rows: Sequence[LabelRow]) -> list[str]:
    """Return the meaning of the numbers, the limits of the model first."""
    counts = naming.counts.get("vlm")
    said = [
        _sight(rows),
        *([] if counts is None else [_result(counts), _paper(counts), _random(counts), _failed(counts)]),
    ]
    return [sentence for sentence in said if sentence]


def _sight(rows: Sequence[LabelRow]) -> str:
    """Describe the labels that the model sees: without these, a verdict is about the model."""
    asked, seen = sum(row.asked for row in rows), sum(row.seen for row in rows)
    if not asked:
        return (
            "No label has images with and without it in the shared test images, so the model's sight is unknown: "
            "its names were compared with controls alone."
        )
    if not seen:
        return (
            f"Asked for the {count(asked)} labels themselves, the model separates none of them from its absence: no "
            "ceiling's interval, corrected for their number, lies above 0.5. As far as these images show, it does not "
            "see the labels, so no name is verified."
        )
    return (
        f"Asked for the {count(asked)} labels themselves, the model separates {count(seen)} from their absence "
        "(interval, corrected for their number, above 0.5). A name that contains another label is not tested."
    )


def _result(c: NameCounts) -> str:
    if not c.named:
        return "The model named no feature, so there was no name to test."
    if not c.tested:
        return f"The model named {count(c.named)} features, but no name could be tested; the cards give the reasons."
    first = f"Of {count(c.tested)} names tested, {count(c.verified)} are verified"
    if not known(c.expected_by_chance):
        return f"{first}; there are too few names to estimate the number verified by chance."
    chance = f"a namer that gives each feature the name of another would have {real(c.expected_by_chance, 1)} verified"
    verdict = "That is no more than chance." if c.verified <= c.expected_by_chance else ""
    return f"{first}; {chance}. {verdict}".strip()


def _paper(c: NameCounts) -> str:
    p = c.paper
    if not p.names:
        return ""
    images = count(p.n_low) if p.n_low == p.n_high else f"{count(p.n_low)} to {count(p.n_high)}"
    return (
        f"Counted as MedSAE does, by an accuracy of at least 0.70 alone, {count(p.passed)} of "
        f"{count(p.names)} names pass on n\u00a0=\u00a0{images} images each; coin tosses would make "
        f"{real(p.expected_by_chance, 1)} pass."
    )


def _random(c: NameCounts) -> str:
    """Warn of random names, the zero of the scale, if they are far from 0.5."""
    if not known(c.random_name_auroc) or FAIR[0] <= c.random_name_auroc <= FAIR[1]:
        return ""
    said = (
        f"Names of other features reach a mean AUROC of {real(c.random_name_auroc, 2)} and not 0.5: read each AUROC "
        "against its random names."
    )
    if not known(c.random_name_auroc_hard):
        return said
    return f"{said} Against inactive images that look like the active ones it is {real(c.random_name_auroc_hard, 2)}."


def _failed(c: NameCounts) -> str:
    if not c.failed:
        return ""
    return f"For {count(c.failed)} features the model gave no valid name, which is no evidence about the feature."


def engine_sentence(naming: NamingReport) -> str:
    """Describe the requests to the model, the share of the prefix cache, and the time saved by working side by side."""
    used = naming.usage
    cached = percent(used.cached_tokens / used.prompt_tokens) if used.prompt_tokens else "none"
    said = (
        f"{count(used.requests)} requests, {count(used.prompt_tokens)} prompt tokens, {cached} of them from the cache."
    )
    if not naming.overlap:
        return said
    beside, alone = (real(naming.overlap[key], 0) for key in ("makespan_s", "sum_s"))
    return f"{said} Naming and analysis side by side took {beside} s; one after the other, {alone} s."
