"""What report.html is made of, from the artifacts of a run."""

import math
from dataclasses import asdict, fields
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from medsae_ray.config import PhantomDataset
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.report.data import EntropySummary, Finding, ReportData
from medsae_ray.stages.datasets import image_store
from medsae_ray.stages.reporting_names import naming_report
from medsae_ray.stages.run import Run

PHANTOM_NOTICE = "Synthetic phantom radiographs: toys for trying the software, not medical images."
THUMBNAIL = 128


def report_data(run: Run) -> ReportData:
    """All that the report shows, from the artifacts of this run."""
    manifest, embeddings, features = (run.artifact(n) for n in ("manifest", "embeddings", "features"))
    audit, metrics = manifest.record.metrics["audit"], features.record.metrics
    usable = embeddings.record.rows - sum(embeddings.record.not_ok.values())
    phantom = isinstance(run.recipe.what.dataset, PhantomDataset)
    limits = run.recipe.what.images
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
        thumbnail=Pictures.of(
            manifest.table(["image_id", "uri"]),
            image_store(run),
            THUMBNAIL,
            limits.max_pixels,
            limits.high_bit,
            limits.window,
        ).png,
        stages=[asdict(row) for row in run.rows],
        naming=naming_report(run) if run.recipe.what.naming else None,
    )


def _provenance(run: Run) -> dict[str, str]:
    what = run.recipe.what
    record = run.artifact("atlas").record
    dataset = "phantom" if isinstance(what.dataset, PhantomDataset) else what.dataset.name
    artifacts = {row.name: row.artifact for row in run.rows}
    versions = " ".join(f"{name} {version}" for name, version in record.run["packages"].items())
    kind = f"{what.sae.architecture} as in the code of {what.sae.compat}" if what.sae.compat else what.sae.architecture
    sae = f"{kind}, {what.sae.width} features"
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
