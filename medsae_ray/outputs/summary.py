"""summary.json: the run in numbers. Its fields are those of summary_types.py."""

from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any, cast

from medsae_ray.core.naming.engine import Usage, total
from medsae_ray.core.naming.verdict import VERDICTS
from medsae_ray.outputs.summary_types import EntropySummary, Summary
from medsae_ray.runtime.run import Run, StageRow
from medsae_ray.stages.scores import sources_of

NAMING = ("names", "answers")
"""The branch that runs beside `features`."""


def summarise(run: Run, report: str) -> Summary:
    """The summary of a run whose atlas is made; `report` is the file of its report."""
    metrics = run.artifact("features").record.metrics
    findings = findings_of(metrics, run.artifact("probes").table().to_pylist())
    summary: dict[str, Any] = {
        "recipe": run.recipe.name,
        "stages": [asdict(row) for row in run.rows],
        "warnings": [asdict(warning) for warning in run.warnings],
        "sae": {k: metrics["sae"][k] for k in ("r2", "fvu", "l0", "dead")},
        "entropy": _entropy(metrics["entropy"]["sae"], metrics["entropy"]["raw"]),
        "findings": findings,
    }
    if run.recipe.what.datasets:
        summary |= {stage: run.artifact(stage).record.metrics for stage in ("replication", "duplicates")}
    if run.recipe.what.vocabulary:
        summary["vocabulary_names"] = _of_vocabulary(run)
    if run.recipe.what.naming:
        summary |= _of_names(run, findings)
    # Records of artifacts are plain values, so that a test and no checker holds them against the type.
    return cast(Summary, summary | {"report": report})


def _entropy(sae: Mapping[str, Any], raw: Mapping[str, Any]) -> EntropySummary:
    return {
        "sae": sae["mean"],
        "raw": raw["mean"],
        "null_mean": sae["null_mean"],
        "null_sd": sae["null_sd"],
        "raw_null_mean": raw["null_mean"],
        "raw_null_sd": raw["null_sd"],
        "labels": sae["labels"],
    }


def findings_of(metrics: Mapping[str, Any], probes: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """For each label with a correlation a `LabelFinding`: its units of presence and absence, the best dimension, and
    the probes.

    The figures of presence stand in the entry itself, as null where no feature goes with the label's presence.
    """
    kinds = ("findings", "absences", "raw_findings", "raw_absences")
    present, absent, high, low = ({f["label"]: _shown(f) for f in metrics[kind]} for kind in kinds)
    of_probe = {(row["label"], row["space"]): {key: row[key] for key in PROBE} for row in probes}
    found = {}
    for label in (name for name in metrics["labels"] if any(name in kind for kind in (present, absent, high, low))):
        unit = max((of[label] for of in (high, low) if label in of), key=lambda f: abs(f["pearson"]), default=None)
        dimension = unit and {"dimension": unit["feature"]} | {k: v for k, v in unit.items() if k != "feature"}
        units = {"absence": absent.get(label), "dimension": dimension}
        both = {"dimensions": of_probe.get((label, "raw")), "features": of_probe.get((label, "sae"))}
        found[label] = present.get(label, NOTHING) | units | {"probe": both}
    return found


FIGURES = ("feature", "r", "r_low", "r_high", "auroc", "auroc_low", "auroc_high", "positives", "negatives")
SHOWN = {key: key.replace("r", "pearson", 1) if key[0] == "r" else key for key in FIGURES}
"""Of a finding, and what the summary calls it."""
PROBE = ("auroc", "low", "high", "strength", "patients")
NOTHING: dict[str, Any] = dict.fromkeys(SHOWN.values())


def _shown(finding: dict[str, Any]) -> dict[str, Any]:
    apart = {"by_dataset": finding["by_dataset"]} if finding["by_dataset"] else {}
    return {said: finding[key] for key, said in SHOWN.items()} | apart


def _of_names(run: Run, findings: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a naming run adds; `findings` gain the name of their feature and its test."""
    scores = run.artifact("scores")
    metrics = scores.record.metrics
    of_feature = {row["feature"]: row for row in scores.table().to_pylist() if row["source"] == "vlm"}
    for label, finding in findings.items():
        for unit in filter(None, (finding, finding["absence"])):
            row = of_feature.get(unit["feature"], {})
            unit |= {"name": row.get("name"), "verdict": row.get("verdict"), "detection_auroc": row.get("auroc")}
            unit |= {"low": row.get("low"), "high": row.get("high")}
        finding["ceiling"] = metrics["ceilings"][label]["auc"]
    kinds = ("features", "named", *VERDICTS, "expected_by_chance", "low_mass_share")
    names = {kind: metrics["vlm"][kind] for kind in kinds}
    more = {key: metrics["vlm"][key] for key in ("random_name_auroc", "random_name_auroc_hard", "paper")}
    label_names = {kind: metrics["label"][kind] for kind in ("named", "verified", "rejected", "untested")}
    return {
        "names": names | more | {"sight": metrics["sight"]},
        "label_names": label_names,
        "vlm": usage_of(run)._asdict() | {"model": run.artifact("names").record.what["model"]},
        "overlap": concurrency(run.rows),
    }


def _of_vocabulary(run: Run) -> dict[str, int]:
    """Counts of the vocabulary's names, and in a naming run of those that the test verified or rejected."""
    named = run.artifact("vocabulary_names").record.metrics
    tested = run.artifact("scores").record.metrics["vocabulary"] if run.recipe.what.naming else {}
    return {**named, **{kind: tested[kind] for kind in ("verified", "rejected", "untested") if kind in tested}}


def usage_of(run: Run) -> Usage:
    """Return the tokens spent on naming and on all detection answers of a run."""
    tests = [source.answers for source in sources_of(run.recipe)]
    used = [run.artifact(stage).record.metrics["usage"] for stage in ("names", *tests)]
    return total(Usage(**usage) for usage in used)


def concurrency(rows: list[StageRow]) -> dict[str, float] | None:
    """Seconds that naming and analysis took side by side, and one after the other; None if one was there already."""
    made = [row for row in rows if row.name in ("features", *NAMING) and row.seconds]
    if len(made) < 1 + len(NAMING):
        return None
    start = min(datetime.fromisoformat(row.start) for row in made)
    end = max(datetime.fromisoformat(row.end) for row in made)
    return {"makespan_s": (end - start).total_seconds(), "sum_s": round(sum(row.seconds for row in made), 3)}
