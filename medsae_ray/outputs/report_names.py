"""The names in report.html, from the artifacts of a naming run."""

from dataclasses import fields

import pyarrow as pa

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.artifacts.columns import null_to_nan, with_nan
from medsae_ray.core.artifacts.metrics import metrics_of
from medsae_ray.core.artifacts.name_metrics import CeilingFigures, ScoresMetrics, SourceMetrics
from medsae_ray.core.naming.plan import Concept
from medsae_ray.core.naming.verdict import PaperCount
from medsae_ray.core.report.data import Answers, NameCounts, NamingReport
from medsae_ray.outputs.summary import concurrency, usage_of
from medsae_ray.runtime.run import Run
from medsae_ray.stages.answers import concepts_of
from medsae_ray.stages.samples import DETECTION, by_feature
from medsae_ray.stages.scores import sources_of


def naming_report(run: Run) -> NamingReport:
    """Return all that the report shows of names."""
    names, scores, sources = run.artifact("names"), run.artifact("scores"), sources_of(run.recipe)
    metrics = metrics_of(scores, ScoresMetrics)
    return NamingReport(
        model=names.record.what["model"],
        names=pa.concat_tables([run.artifact(source.names).table() for source in sources]),
        scores=scores.table(),
        counts={source.name: _counts(metrics[source.name]) for source in sources},
        ceilings={label: _area(ceiling) for label, ceiling in metrics["ceilings"].items()},
        seen=frozenset(label for label, ceiling in metrics["ceilings"].items() if ceiling["seen"]),
        answers=answers_of(
            concepts_of(names.table()), run.artifact("samples").table(), run.artifact("answers").table()
        ),
        usage=usage_of(run),
        overlap=concurrency(run.rows),
    )


def answers_of(concept_of: dict[int, Concept], samples: pa.Table, answers: pa.Table) -> dict[int, Answers]:
    """Return the answers to each feature's own name on its own test images; NaN where missing."""
    asked = set(concept_of.values())
    columns = (answers[c].to_pylist() for c in ("image_id", "name", "definition", "p_yes"))
    found = {
        (image, concept): p
        for image, name, definition, p in zip(*columns, strict=True)
        if (concept := Concept(name, definition)) in asked
    }
    return {
        feature: Answers(
            p_yes=[null_to_nan(found.get((row["image_id"], concept_of[feature]))) for row in rows],
            y=[int(row["value"] > 0) for row in rows],
            role=[row["role"] for row in rows],
        )
        for feature, rows in by_feature(samples, DETECTION).items()
        if feature in concept_of
    }


def _counts(stored: SourceMetrics) -> NameCounts:
    shown = {field.name for field in fields(NameCounts)}
    counts = {key: value for key, value in with_nan(stored).items() if key in shown}
    return NameCounts(**counts | {"paper": PaperCount(**with_nan(stored["paper"]))})


def _area(ceiling: CeilingFigures) -> Auroc:
    return Auroc(**{key: value for key, value in with_nan(ceiling).items() if key in Auroc._fields})
