"""The data of report.html, from the artifacts of a run."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medsae_ray.config import Recipe
from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.analysis.patch_maps import Pair, PatchMap, Square, input_square, patch_values
from medsae_ray.core.artifacts.columns import null_to_nan, with_nan
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.likeness import LikenessMetrics
from medsae_ray.core.artifacts.metrics import (
    DuplicatesMetrics,
    EntropyOfSpaces,
    FeaturesMetrics,
    ManifestMetrics,
    ReplicationMetrics,
    SaeMetrics,
    StoredFinding,
    metrics_of,
)
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.artifacts.rankings import RankingsMetrics
from medsae_ray.core.artifacts.recovery import RecoveryMetrics
from medsae_ray.core.artifacts.retrieval import RetrievalMetrics
from medsae_ray.core.artifacts.schema import SPLITS
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.encoders.hub import is_id
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.naming.pictures import Pictures
from medsae_ray.core.report.data import EntropySummary, Patches, ReplicationReport, ReportData
from medsae_ray.core.report.recovery import RecoveryReport
from medsae_ray.core.sae.activations import load_artifact_sae
from medsae_ray.outputs.report_names import naming_report
from medsae_ray.runtime.run import Run
from medsae_ray.stages.embeddings import preprocess_of
from medsae_ray.stages.images import hospitals
from medsae_ray.stages.manifest import image_store
from medsae_ray.stages.volumes import cohorts

PHANTOM_NOTICE = "Synthetic phantom radiographs: toys for trying the software, not medical images."
VOLUMES_NOTICE = "Synthetic phantom scans: toys for trying the software, not medical images."
THUMBNAIL = 128


def report_data(run: Run) -> ReportData:
    """Return all that the report shows, from the artifacts of this run."""
    manifest, embeddings, features = (run.artifact(n) for n in ("manifest", "embeddings", "features"))
    audit, metrics = metrics_of(manifest, ManifestMetrics)["audit"], metrics_of(features, FeaturesMetrics)
    usable = embeddings.record.rows - sum(embeddings.record.not_ok.values())
    notice = PHANTOM_NOTICE if hospitals(run.recipe) else VOLUMES_NOTICE if cohorts(run.recipe) else None
    what = run.recipe.what
    uris, store = manifest.table(["image_id", "uri"]), image_store(run)
    pictures = Pictures.of(uris, store, THUMBNAIL, Reading.of(what.images))
    log = pq.read_table(pa.BufferReader(run.artifact("sae").file("log")))
    return ReportData(
        title=run.recipe.name,
        notice=notice,
        counts={
            "images": manifest.record.rows,
            "usable images": usable,
            "patients": audit["patients"],
            "labels": len(metrics["labels"]),
            **{f"{split} patients": audit["splits"][split]["patients"] for split in SPLITS},
        },
        not_ok=embeddings.record.not_ok,
        provenance=_provenance(run),
        labels=metrics["labels"],
        sae=with_nan(metrics["sae"]),
        entropy=_entropy(metrics["entropy"]),
        log=log,
        atlas=run.artifact("atlas").table(),
        findings=[_finding(f) for f in metrics["findings"]],
        raw_findings=[_finding(f) for f in metrics["raw_findings"]],
        absences=[_finding(f) for f in metrics["absences"]],
        raw_absences=[_finding(f) for f in metrics["raw_absences"]],
        probes=_probes(run.artifact("probes").table().to_pylist()),
        recovery=_recovery(run),
        labels_of=_labels_of(run),
        thumbnail=pictures.png,
        stages=[asdict(row) for row in run.rows],
        copies=metrics["copies"],
        warnings=run.warnings,
        naming=naming_report(run) if what.naming else None,
        retrieval=metrics_of(run.artifact("retrieval"), RetrievalMetrics),
        likeness=metrics_of(run.artifact("likeness"), LikenessMetrics),
        rankings=metrics_of(run.artifact("rankings"), RankingsMetrics) if what.naming and what.naming.judge else None,
        replication=_replication(run) if what.datasets else None,
        monosemanticity=metrics_of(run.artifact("monosemanticity"), MonosemanticityMetrics),
        monosemanticity_of={
            row["feature"]: row for row in run.artifact("monosemanticity").table().to_pylist() if row["space"] == "sae"
        },
        patches=_patches(run, pictures) if what.encoder.patches else None,
    )


def _patches(run: Run, pictures: Pictures) -> Patches:
    embeddings, sae, preprocess = run.artifact("embeddings"), run.artifact("sae"), preprocess_of(run)
    grid = Layout.of(embeddings.schema).grid
    assert grid, "the run's embeddings are of patches"

    def square(image_id: str) -> Square:
        size = pictures.size(image_id) if preprocess.fit != "stretch" else None
        return input_square(preprocess, *(size or (1, 1)))

    def maps(wanted: Sequence[Pair]) -> dict[Pair, PatchMap]:
        table = run.artifact("manifest").table(["image_id", "shard"])
        shard_of = dict(zip(table["image_id"].to_pylist(), table["shard"].to_pylist(), strict=True))
        squares = {image_id: square(image_id) for image_id in {image_id for _, image_id in wanted}}
        found = patch_values(embeddings, load_artifact_sae(sae), shard_of, wanted)
        return {pair: PatchMap(value_HW, squares[pair[1]]) for pair, value_HW in found.items()}

    return Patches(grid, maps)


def _replication(run: Run) -> ReplicationReport:
    found = metrics_of(run.artifact("replication"), ReplicationMetrics)
    images = metrics_of(run.artifact("duplicates"), DuplicatesMetrics)
    return ReplicationReport(
        datasets=found["datasets"],
        findings=found["findings"],
        pairs=found["pairs"],
        duplicates=images["pairs"],
        in_different_splits=images["in_different_splits"],
    )


def _provenance(run: Run) -> dict[str, str]:
    what = run.recipe.what
    record = run.artifact("atlas").record
    artifacts = {row.name: row.artifact for row in run.rows}
    versions = " ".join(f"{name} {version}" for name, version in record.run["packages"].items())
    config = metrics_of(run.artifact("sae"), SaeMetrics)["config"]
    kind = config["architecture"] + (f" as in the code of {config['compat']}" if config["compat"] else "")
    kind += " chosen by a sweep" if what.chooses else ""
    kind += f" of seed {config['seed']}, the best of {what.sae.restarts} trainings" if what.sae.restarts > 1 else ""
    sizes = f", k {config['k']}" if config["k"] else ""
    sae = (
        f"{kind}, {config['width']:,} features{sizes}, {config['epochs']:,} epochs in batches of "
        f"{config['batch_size']:,}, learning rate {config['lr']:g}"
    )
    return {
        "dataset": ", ".join(source.name for source in what.sources),
        "encoder": encoder_name(run.recipe),
        "autoencoder": sae,
        **artifacts,
        "versions": versions,
        "created": record.run["end"],
    }


def encoder_name(recipe: Recipe) -> str:
    """Return the encoder's kind, and for a kind of many models the model: its Hugging Face id, or its folder's name."""
    encoder = recipe.what.encoder
    model = recipe.how.paths.weights or encoder.published
    if not (encoder.takes_ids and model):
        return encoder.kind
    return f"{encoder.kind}, {model if is_id(model) else Path(model).name}"


def _entropy(of: EntropyOfSpaces) -> EntropySummary:
    sae, raw = with_nan(of["sae"]), with_nan(of["raw"])
    return EntropySummary(
        sae=sae["mean"],
        raw=raw["mean"],
        null_mean=sae["null_mean"],
        null_sd=sae["null_sd"],
        raw_null_mean=raw["null_mean"],
        raw_null_sd=raw["null_sd"],
        labels=of["sae"]["labels"],
        sae_units=int(sae["units"]),
        raw_units=int(raw["units"]),
    )


def _finding(stored: StoredFinding) -> Finding:
    apart = {name: Auroc(**with_nan(area)) for name, area in stored["by_dataset"].items()}
    return Finding(**{**with_nan(stored), "by_dataset": apart})


def _probes(rows: list[dict[str, Any]]) -> dict[str, dict[str, Auroc]]:
    """Return label -> space -> its probe's AUROC."""
    found: dict[str, dict[str, Auroc]] = {}
    for row in rows:
        area = Auroc(*(null_to_nan(row[key]) for key in ("auroc", "low", "high", "positives", "negatives")))
        found.setdefault(row["label"], {})[row["space"]] = area
    return found


def _recovery(run: Run) -> RecoveryReport:
    found = run.artifact("recovery")
    return RecoveryReport(metrics_of(found, RecoveryMetrics), found.table().to_pylist())


def _labels_of(run: Run) -> Callable[[Sequence[str]], dict[str, Sequence[float]]]:
    """Return the function that gives the report the labels of its images."""
    manifest, what = run.artifact("manifest"), run.recipe.what

    def labels_of(image_ids: Sequence[str]) -> dict[str, Sequence[float]]:
        table = manifest.table()
        y_NL = label_matrix(table, what.uncertain, what.blank)
        rows = np.flatnonzero(pc.is_in(table["image_id"], value_set=pa.array(image_ids, pa.string())).to_numpy())
        return dict(zip(table["image_id"].take(pa.array(rows)).to_pylist(), y_NL[rows].tolist(), strict=True))

    return labels_of
