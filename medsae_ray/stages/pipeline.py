"""The whole run: every stage in turn, then the two things a person reads, summary.json and report.html."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict, fields
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.console import Console

from medsae_ray.config import PhantomDataset, Recipe
from medsae_ray.core.artifact import Artifact
from medsae_ray.core.images import read_image
from medsae_ray.core.report.data import EntropySummary, Finding, ReportData
from medsae_ray.core.report.render import render_report
from medsae_ray.core.storage import Store, read_uri
from medsae_ray.errors import ImageError, RecipeError
from medsae_ray.stages.closing import closing_table, findings_table, headline
from medsae_ray.stages.datasets import IMAGES, MANIFEST, image_store
from medsae_ray.stages.features import ATLAS, FEATURES, NAMES
from medsae_ray.stages.models import ACTIVATIONS, EMBEDDINGS
from medsae_ray.stages.run import Run, Stage
from medsae_ray.stages.train import SAE

STAGES: dict[str, Stage] = {s.name: s for s in (IMAGES, MANIFEST, EMBEDDINGS, SAE, ACTIVATIONS, FEATURES, NAMES, ATLAS)}
PHANTOM_NOTICE = "Synthetic phantom radiographs: toys for trying the software, not medical images."
THUMBNAIL = 128


def run_recipe(recipe: Recipe, root: str, console: Console | None = None) -> dict[str, Any]:
    """Run a recipe below `root` (a path or URI) and return the summary that is also written to summary.json.

    What an earlier run finished is taken as it is. Raises RecipeError, DatasetError, EncoderError, ArtifactError or
    ShardError; everything finished by then stays.
    """
    with Run(recipe, Store(root), STAGES, console or Console(quiet=True)) as run:
        run.artifact("atlas")
        summary = summarise(run)
        run.root.write("summary.json", json.dumps(summary, indent=1, allow_nan=False).encode())
        run.root.write("report.html", render_report(report_data(run)).encode())
        for part in (findings_table(summary), headline(summary), closing_table(run.rows)):
            run.console.print(part, end="\n\n")
        return summary


def run_stage(recipe: Recipe, root: str, name: str, console: Console | None = None) -> Artifact:
    """One stage, and the stages before it that are not there yet."""
    if name not in STAGES:
        raise RecipeError(f"no stage {name!r}; the stages are {', '.join(STAGES)}")
    if name == "images" and not isinstance(recipe.what.dataset, PhantomDataset):
        raise RecipeError("stage 'images' draws phantoms; this recipe's dataset has its own images")
    with Run(recipe, Store(root), STAGES, console or Console(quiet=True)) as run:
        artifact = run.artifact(name)
        run.console.print(closing_table(run.rows))
        return artifact


def summarise(run: Run) -> dict[str, Any]:
    """summary.json: see the README for its fields."""
    metrics = run.artifact("features").record.metrics
    sae, raw = metrics["entropy"]["sae"], metrics["entropy"]["raw"]
    keep = ("feature", "r", "auroc", "auroc_low", "auroc_high")
    findings = {f["label"]: {("pearson" if k == "r" else k): f[k] for k in keep} for f in metrics["findings"]}
    return {
        "recipe": run.recipe.name,
        "stages": [asdict(row) for row in run.rows],
        "sae": {k: metrics["sae"][k] for k in ("r2", "fvu", "l0", "dead")},
        "entropy": {
            "sae": sae["mean"],
            "raw": raw["mean"],
            "null_mean": sae["null_mean"],
            "null_sd": sae["null_sd"],
            "raw_null_mean": raw["null_mean"],
            "raw_null_sd": raw["null_sd"],
        },
        "findings": findings,
    }


def report_data(run: Run) -> ReportData:
    """All that the report shows, from the artifacts of this run."""
    manifest, embeddings, features = (run.artifact(n) for n in ("manifest", "embeddings", "features"))
    audit, metrics = manifest.record.metrics["audit"], features.record.metrics
    usable = embeddings.record.rows - sum(embeddings.record.not_ok.values())
    phantom = isinstance(run.recipe.what.dataset, PhantomDataset)
    log = pq.read_table(pa.BufferReader(run.artifact("sae").file("log")))
    return ReportData(
        title=run.recipe.name,
        notice=PHANTOM_NOTICE if phantom else None,
        counts={
            "images": manifest.record.rows,
            "usable images": usable,
            "patients": audit["patients"],
            "labels": len(metrics["labels"]),
            **{f"{split} patients": n["patients"] for split, n in audit["splits"].items()},
        },
        not_ok=embeddings.record.not_ok,
        provenance=_provenance(run),
        labels=metrics["labels"],
        sae={k: _nan(v) for k, v in metrics["sae"].items()},
        entropy=_entropy(metrics),
        log=log,
        atlas=run.artifact("atlas").table(),
        findings=[_finding(f) for f in metrics["findings"]],
        raw_findings=[_finding(f) for f in metrics["raw_findings"]],
        thumbnail=thumbnails(manifest, image_store(run), run.recipe),
        stages=[asdict(row) for row in run.rows],
    )


def thumbnails(manifest: Artifact, images: Store, recipe: Recipe) -> Callable[[str], bytes | None]:
    """A function from image_id to a small PNG; None for an image that cannot be read."""
    table = manifest.table(["image_id", "uri"])
    uri_of = dict(zip(table["image_id"].to_pylist(), table["uri"].to_pylist(), strict=True))
    limits = recipe.what.images

    def thumbnail(image_id: str) -> bytes | None:
        try:
            data = read_uri(images, uri_of[image_id])
            image = read_image(data, max_pixels=limits.max_pixels, high_bit=limits.high_bit).convert("L")
        except (ImageError, OSError):
            return None
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        stream = BytesIO()
        image.save(stream, format="PNG")  # without loss: the report encodes it for the page
        return stream.getvalue()

    return thumbnail


def _provenance(run: Run) -> dict[str, str]:
    what = run.recipe.what
    record = run.artifact("atlas").record
    dataset = "phantom" if isinstance(what.dataset, PhantomDataset) else what.dataset.name
    artifacts = {row.name: row.artifact for row in run.rows}
    versions = " ".join(f"{name} {version}" for name, version in record.run["packages"].items())
    sae = f"{what.sae.architecture}, {what.sae.width} features"
    return {
        "dataset": dataset,
        "encoder": what.encoder.kind,
        "sae": sae,
        **artifacts,
        "versions": versions,
        "created": record.run["end"],
    }


def _entropy(metrics: dict[str, Any]) -> EntropySummary:
    sae, raw = ({k: _nan(v) for k, v in metrics["entropy"][s].items()} for s in ("sae", "raw"))
    return EntropySummary(
        sae=sae["mean"],
        raw=raw["mean"],
        null_mean=sae["null_mean"],
        null_sd=sae["null_sd"],
        raw_null_mean=raw["null_mean"],
        raw_null_sd=raw["null_sd"],
        labels=len(metrics["labels"]),
        sae_units=int(sae["units"]),
        raw_units=int(raw["units"]),
    )


def _finding(stored: dict[str, Any]) -> Finding:
    return Finding(**{f.name: _nan(stored[f.name]) for f in fields(Finding)})


def _nan(value: Any) -> Any:
    return math.nan if value is None else value
