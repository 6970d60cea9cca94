"""The run in numbers: summary.json, with the fields of summary_types.py in their order there."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple, cast

from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.likeness import LikenessMetrics, LikenessSummary
from medsae_ray.core.artifacts.metrics import (
    DuplicatesMetrics,
    EntropyOfSpaces,
    FeaturesMetrics,
    MeasuredMetrics,
    ReplicationMetrics,
    SaeFigures,
    StoredFinding,
    metrics_of,
)
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.artifacts.name_metrics import (
    AnswersMetrics,
    CeilingFigures,
    NamesMetrics,
    ScoresMetrics,
    SourceMetrics,
    VocabularyNamesMetrics,
)
from medsae_ray.core.artifacts.rankings import RankingsMetrics
from medsae_ray.core.artifacts.recovery import RecoveryMetrics
from medsae_ray.core.artifacts.retrieval import RetrievalMetrics, RetrievalSummary
from medsae_ray.core.naming.engine import Usage, total
from medsae_ray.core.report.data import OverlapSummary
from medsae_ray.outputs.summary_types import (
    EntropySummary,
    FeatureFinding,
    LabelFinding,
    LabelTest,
    MeasuredFeature,
    NameTest,
    OfDatasets,
    OfNaming,
    OfVocabulary,
    ProbeSummary,
    StageSummary,
    Summary,
    TestedNames,
    UnitFigures,
    VocabularySummary,
    WarningSummary,
)
from medsae_ray.runtime.run import Run, StageRow
from medsae_ray.stages.scores import sources_of

NAMING = ("names", "answers")
"""The branch that runs in parallel with `features`."""


def summarise(run: Run, report: str) -> Summary:
    """Return the summary of a run whose atlas is made, without a paper's rows; `report` is the file of its report."""
    metrics, what = metrics_of(run.artifact("features"), FeaturesMetrics), run.recipe.what
    sae, tests = metrics["sae"], NameTests.of(run.artifact("scores")) if what.naming else None
    return {
        "recipe": run.recipe.name,
        "stages": [cast(StageSummary, asdict(row)) for row in run.rows],
        "warnings": [cast(WarningSummary, asdict(warning)) for warning in run.warnings],
        "sae": SaeFigures(r2=sae["r2"], fvu=sae["fvu"], l0=sae["l0"], dead=sae["dead"]),
        "entropy": _entropy(metrics["entropy"]),
        "monosemanticity": metrics_of(run.artifact("monosemanticity"), MonosemanticityMetrics),
        "findings": findings_of(metrics, run.artifact("probes").table().to_pylist(), tests),
        "recovery": metrics_of(run.artifact("recovery"), RecoveryMetrics),
        "retrieval": _retrieval(run),
        "likeness": _likeness(run),
        **(_of_datasets(run) if what.datasets else OfDatasets()),
        **(_of_vocabulary(run) if what.vocabulary else OfVocabulary()),
        **(_of_naming(run) if what.naming else OfNaming()),
        **(_of_judge(run) if what.naming and what.naming.judge else OfNaming()),
        "report": report,
        "paper": [],
    }


def _retrieval(run: Run) -> RetrievalSummary:
    found = metrics_of(run.artifact("retrieval"), RetrievalMetrics)
    return {
        "references": found["references"],
        "candidates": found["candidates"],
        "patients": found["patients"],
        "always_active": found["always_active"],
        "methods": found["methods"],
    }


def _likeness(run: Run) -> LikenessSummary:
    found = metrics_of(run.artifact("likeness"), LikenessMetrics)
    summary = LikenessSummary(
        level=found["level"],
        threshold=found["threshold"],
        fitted=found["fitted"],
        reference=found["reference"],
        detection=found["detection"],
    )
    if "by_dataset" in found:
        summary["by_dataset"] = found["by_dataset"]
    return summary


def _entropy(of: EntropyOfSpaces) -> EntropySummary:
    return {
        "sae": of["sae"]["mean"],
        "raw": of["raw"]["mean"],
        "null_mean": of["sae"]["null_mean"],
        "null_sd": of["sae"]["null_sd"],
        "raw_null_mean": of["raw"]["null_mean"],
        "raw_null_sd": of["raw"]["null_sd"],
        "labels": of["sae"]["labels"],
    }


class NameTests(NamedTuple):
    """The tests of names, of features and labels, in a naming run."""

    of_feature: dict[int | None, dict[str, Any]]
    """The rows of the scores of the model's names."""
    ceilings: dict[str, CeilingFigures]

    @classmethod
    def of(cls, scores: Artifact) -> "NameTests":
        """Read them from the artifact of stage `scores`."""
        rows = scores.table().to_pylist()
        of_feature = {row["feature"]: row for row in rows if row["source"] == "vlm"}
        return cls(of_feature, metrics_of(scores, ScoresMetrics)["ceilings"])

    def of_name(self, feature: int | None) -> NameTest:
        """Return the name of a feature and its test; None for each where it has none."""
        row = self.of_feature.get(feature, {})
        return {
            "name": row.get("name"),
            "verdict": row.get("verdict"),
            "detection_auroc": row.get("auroc"),
            "low": row.get("low"),
            "high": row.get("high"),
        }


def findings_of(
    metrics: MeasuredMetrics, probes: list[dict[str, Any]], tests: NameTests | None
) -> dict[str, LabelFinding]:
    """Return for each label with a correlation its units of presence and absence, the best dimension, and the probes.

    The entry itself holds the figures of presence, which are null if no feature correlates with it.
    """
    kinds = (metrics["findings"], metrics["absences"], metrics["raw_findings"], metrics["raw_absences"])
    present, absent, high, low = ({finding["label"]: finding for finding in found} for found in kinds)
    of_probe = {(row["label"], row["space"]): _probe(row) for row in probes}
    found: dict[str, LabelFinding] = {}
    for label in (name for name in metrics["labels"] if any(name in kind for kind in (present, absent, high, low))):
        best = max((of[label] for of in (high, low) if label in of), key=lambda f: abs(f["r"]), default=None)
        unit = _feature(present[label]) if label in present else NOTHING
        found[label] = {
            **unit,
            "absence": _absence(absent[label], tests) if label in absent else None,
            "dimension": best and {"dimension": best["feature"], **_figures(best)},
            "probe": {
                "dimensions": of_probe.get((label, "raw")),
                "features": of_probe.get((label, "sae")),
                "means": of_probe.get((label, "means")),
            },
            **(_label_test(tests, label, unit["feature"]) if tests else LabelTest()),
        }
    return found


def _absence(finding: StoredFinding, tests: NameTests | None) -> FeatureFinding:
    return {**_feature(finding), **(tests.of_name(finding["feature"]) if tests else NameTest())}


def _label_test(tests: NameTests, label: str, feature: int | None) -> LabelTest:
    return {**tests.of_name(feature), "ceiling": tests.ceilings[label]["auc"]}


NOTHING = MeasuredFeature(
    feature=None,
    pearson=None,
    pearson_low=None,
    pearson_high=None,
    auroc=None,
    auroc_low=None,
    auroc_high=None,
    positives=None,
    negatives=None,
)


def _feature(finding: StoredFinding) -> MeasuredFeature:
    return {"feature": finding["feature"], **_figures(finding)}


def _figures(finding: StoredFinding) -> UnitFigures:
    figures: UnitFigures = {
        "pearson": finding["r"],
        "pearson_low": finding["r_low"],
        "pearson_high": finding["r_high"],
        "auroc": finding["auroc"],
        "auroc_low": finding["auroc_low"],
        "auroc_high": finding["auroc_high"],
        "positives": finding["positives"],
        "negatives": finding["negatives"],
    }
    if finding["by_dataset"]:
        figures["by_dataset"] = finding["by_dataset"]
    return figures


def _probe(row: dict[str, Any]) -> ProbeSummary:
    return cast(ProbeSummary, {key: row[key] for key in ProbeSummary.__annotations__})


def _of_datasets(run: Run) -> OfDatasets:
    return {
        "replication": metrics_of(run.artifact("replication"), ReplicationMetrics),
        "duplicates": metrics_of(run.artifact("duplicates"), DuplicatesMetrics),
    }


def _of_vocabulary(run: Run) -> OfVocabulary:
    """Count the vocabulary's names, and in a naming run the results of their test."""
    named = metrics_of(run.artifact("vocabulary_names"), VocabularyNamesMetrics)
    summary = VocabularySummary(abstained=named["abstained"], named=named["named"], terms=named["terms"])
    if run.recipe.what.naming:
        tested = metrics_of(run.artifact("scores"), ScoresMetrics)["vocabulary"]
        summary["verified"], summary["rejected"] = tested["verified"], tested["rejected"]
        summary["untested"] = tested["untested"]
    return {"vocabulary_names": summary}


def _tested(names: SourceMetrics) -> TestedNames:
    return {"verified": names["verified"], "rejected": names["rejected"], "untested": names["untested"]}


def _of_naming(run: Run) -> OfNaming:
    metrics = metrics_of(run.artifact("scores"), ScoresMetrics)
    names = metrics["vlm"]
    return {
        "names": {
            "features": names["features"],
            "named": names["named"],
            "verified": names["verified"],
            "rejected": names["rejected"],
            "untested": names["untested"],
            "insufficient_support": names["insufficient_support"],
            "abstained": names["abstained"],
            "failed": names["failed"],
            "dead": names["dead"],
            "expected_by_chance": names["expected_by_chance"],
            "low_mass_share": names["low_mass_share"],
            "random_name_auroc": names["random_name_auroc"],
            "random_name_auroc_hard": names["random_name_auroc_hard"],
            "paper": names["paper"],
            "sight": metrics["sight"],
        },
        "label_names": {"named": metrics["label"]["named"], **_tested(metrics["label"])},
        "vlm": {**usage_of(run).stored(), "model": run.artifact("names").record.what["model"]},
        "overlap": concurrency(run.rows),
    }


def _of_judge(run: Run) -> OfNaming:
    return {"rankings": metrics_of(run.artifact("rankings"), RankingsMetrics)}


def usage_of(run: Run) -> Usage:
    """Return the tokens spent on naming and on all detection answers of a run."""
    tests = [source.answers for source in sources_of(run.recipe)]
    used = [metrics_of(run.artifact("names"), NamesMetrics)["usage"]]
    used += [metrics_of(run.artifact(stage), AnswersMetrics)["usage"] for stage in tests]
    return total(Usage(**usage) for usage in used)


def concurrency(rows: list[StageRow]) -> OverlapSummary | None:
    """Return the seconds of naming and analysis in parallel, and their sum; None if one was made before."""
    made = [row for row in rows if row.name in ("features", *NAMING) and row.seconds]
    if len(made) < 1 + len(NAMING):
        return None
    start = min(datetime.fromisoformat(row.start) for row in made)
    end = max(datetime.fromisoformat(row.end) for row in made)
    return {"makespan_s": (end - start).total_seconds(), "sum_s": round(sum(row.seconds for row in made), 3)}
