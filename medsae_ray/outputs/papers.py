"""The published figures of a paper beside those of a run: its rows, its page and its line on the terminal."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow.compute as pc

from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.artifacts.metrics import FeaturesMetrics, ManifestMetrics, SaeMetrics, metrics_of
from medsae_ray.core.artifacts.schema import METADATA
from medsae_ray.core.papers.compare import PaperRow, compare
from medsae_ray.core.papers.evidence import Evidence
from medsae_ray.core.papers.published import CONTROL, Paper, PaperName, load
from medsae_ray.core.report.papers import render_papers
from medsae_ray.outputs.report import encoder_name
from medsae_ray.outputs.summary_types import Summary
from medsae_ray.runtime.run import Run

PAGE = "papers.html"


def paper_rows(run: Run, summary: Summary, name: PaperName) -> list[PaperRow]:
    """Return the figures of the recipe's paper beside those of a run whose atlas is made."""
    paper = load(name)
    return compare(paper, evidence_of(run, summary, paper))


def paper_page(run: Run, name: PaperName, rows: list[PaperRow]) -> str:
    """Render the page of these rows."""
    return render_papers(load(name), rows, run.recipe.name, encoder_name(run.recipe), changes_of(run.recipe))


def paper_line(name: PaperName, rows: list[PaperRow]) -> str:
    """Say how many of the published figures the run has one of its own for."""
    have = sum(row["here"] is not None for row in rows)
    return (
        f"{load(name).title}: of {len(rows)} published figures this run has its own for {have}, and for the others the "
        f"reason ({PAGE})"
    )


def evidence_of(run: Run, summary: Summary, paper: Paper) -> Evidence:
    """Gather what figures of a paper are compared with."""
    what = run.recipe.what
    sae = metrics_of(run.artifact("sae"), SaeMetrics)
    features: Mapping[str, Any] = metrics_of(run.artifact("features"), FeaturesMetrics)
    return Evidence(
        summary=summary,
        arm=arm_of(run.recipe, paper),
        encoder=encoder_name(run.recipe) + (" with random weights" if _random(run.recipe) else ""),
        sae=sae["config"],
        last_epoch=sae["last_epoch"],
        counts=_counts(run),
        features=features,
        monosemanticity=run.artifact("monosemanticity").table().to_pylist(),
        recovery=run.artifact("recovery").table().to_pylist(),
        retrieval=run.artifact("retrieval").table().to_pylist(),
        sweep=run.artifact("sweep").table().to_pylist() if what.chooses else (),
        scores=run.artifact("scores").table().to_pylist() if what.naming else (),
    )


def arm_of(recipe: Recipe, paper: Paper) -> str | None:
    """Return the arm of the paper that the recipe's encoder is; with random weights only the first arm has one."""
    kind = recipe.what.encoder.kind
    if not _random(recipe):
        return kind if kind in paper.arms else None
    return CONTROL if kind == next(iter(paper.arms), None) else None


def _random(recipe: Recipe) -> bool:
    return getattr(recipe.what.encoder, "random_weights", None) is not None


def _counts(run: Run) -> dict[str, int]:
    manifest = run.artifact("manifest")
    metrics = metrics_of(manifest, ManifestMetrics)
    audit, notes = metrics["audit"], metrics.get("notes", {})
    counts = {
        "images": manifest.record.rows,
        "patients": audit["patients"],
        "labels": len(metrics["labels"]),
        "heldout": audit["splits"]["naming"]["images"],
    }
    of_datasets = {source.name: notes.get(source.name, notes) for source in run.recipe.what.sources}
    counts |= {f"scans {name}": of["scans"] for name, of in of_datasets.items() if "scans" in of}
    if (split := f"{METADATA}split") in manifest.schema.names:
        parts = pc.value_counts(manifest.table([split])[split]).to_pylist()
        counts |= {f"split {part['values']}": part["counts"] for part in parts if part["values"]}
    return counts


def changes_of(recipe: Recipe) -> list[str]:
    """Return each key of *what* whose value differs from that of the paper's packaged recipe, with both values."""
    if recipe.paper is None:
        return []
    packaged = load_recipe(load(recipe.paper).recipe)
    ours, theirs = (dict(_flat(one.what.model_dump(mode="json"), "what")) for one in (recipe, packaged))
    keys = [key for key in {**theirs, **ours} if ours.get(key) != theirs.get(key)]
    return [f"{key}: {_said(ours.get(key))}, in the packaged recipe {_said(theirs.get(key))}" for key in keys]


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, list) and value and all(isinstance(one, dict) and "name" in one for one in value):
        value = {one["name"]: one for one in value}
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}")
    else:
        yield key, value


def _said(value: Any) -> str:
    text = str(value)
    return "nothing" if value is None else text if len(text) <= 80 else text[:79] + "…"
