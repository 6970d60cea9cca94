"""Made-up report data for the tests: units that follow planted labels, and generated thumbnails."""

import io
import math
from functools import cache

import numpy as np
import pyarrow as pa
from PIL import Image, ImageFilter

from medsae_ray.core.analysis.findings import Finding
from medsae_ray.core.artifacts import schema
from medsae_ray.core.report.data import EntropySummary, ReportData

LABELS = [
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
]  # fmt: skip
NAMES = ["Enlarged cardiac silhouette", "Basal opacity with meniscus", "Lines and tubes", "Hyperlucent apex"]


@cache
def picture(seed: int) -> bytes:
    """A smooth grey picture with two dark fields: enough to see crops and contrast."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    lungs = sum(np.exp(-(((x - side * 0.42) / 0.28) ** 2 + (y / 0.6) ** 2) * 2) for side in (-1, 1))
    heart = np.exp(-(((x - 0.1) / rng.uniform(0.2, 0.4)) ** 2 + ((y - 0.35) / 0.3) ** 2))
    grey = 165 - 120 * lungs + 60 * heart + rng.normal(0, 8, x.shape)
    image = Image.fromarray(grey.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(0.8))
    out = io.BytesIO()
    image.save(out, "JPEG", quality=85)
    return out.getvalue()


def atlas_row(feature: int, labels: list[str], rng: np.random.Generator) -> dict[str, object]:
    """One feature: a strong one for some label if its number is small, else noise."""
    k = len(labels)
    r = rng.normal(0, 0.04, k)
    if k:
        r[rng.integers(k)] += 0.75 * math.exp(-feature / 25)
    n_active = int(rng.integers(40, 3000))
    bins = rng.normal(rng.uniform(14, 24), 2.5, n_active).astype(int).clip(0, schema.HISTOGRAM_BINS - 1)
    best = int(np.argmax(r)) if k else 0
    auroc = min(0.98, 0.5 + 0.55 * r[best] + rng.normal(0, 0.02)) if k else None
    half = rng.uniform(0.02, 0.09)
    p = np.abs(r) / np.abs(r).sum() if k else r
    entropy = float(-(p * np.log(p)).sum()) if k else None
    return {
        "space": "sae", "feature": feature, "n_images": 6200, "n_active": n_active, "frequency": n_active / 6200,
        "mean_active": float(rng.uniform(0.2, 2)), "max": float(rng.uniform(3, 8)),
        "histogram": np.bincount(bins, minlength=schema.HISTOGRAM_BINS).tolist(),
        "top_images": [f"patient{(feature * 8 + i) % 60:05d}-view1" for i in range(8)],
        "top_values": sorted(rng.uniform(2, 7, 8).tolist(), reverse=True),
        "r": r.tolist(), "r_low": (r - 0.05).tolist(), "r_high": (r + 0.05).tolist(),
        "entropy": entropy, "entropy_normalised": entropy / math.log(k) if entropy and k > 1 else None,
        "best_label": labels[best] if k else None, "best_r": float(r[best]) if k else None,
        "auroc": auroc, "auroc_low": auroc - half if k else None, "auroc_high": min(1, auroc + half) if k else None,
        "auroc_positives": int(rng.integers(20, 300)), "auroc_negatives": int(rng.integers(400, 900)),
        "name": NAMES[feature % 4] if feature % 3 == 0 else None, "name_source": "labels" if feature % 3 == 0 else None,
    }  # fmt: skip


def findings(rows: list[dict[str, object]], labels: list[str]) -> list[Finding]:
    """Per label the row with the largest correlation among those that have it as their best."""
    found = []
    for label in labels:
        mine = [row for row in rows if row["best_label"] == label]
        if mine:
            row = max(mine, key=lambda row: row["best_r"])
            r, measured = row["best_r"], (row["auroc"], row["auroc_low"], row["auroc_high"])
            support = (row["auroc_positives"], row["auroc_negatives"])
            found.append(Finding(label, row["feature"], r, r - 0.05, r + 0.05, *measured, *support))
    return found


def training_log(epochs: int) -> pa.Table:
    t = np.arange(epochs)
    r2 = 0.94 - 0.6 * np.exp(-t / 6)
    columns = {"epoch": t, "loss": 0.31 * np.exp(-t / 7) + 0.06, "r2": r2, "fvu": 1 - r2}
    return pa.table(columns | {"l0": 32 + 20 * np.exp(-t / 3), "dead_share": 0.05 - 0.04 * np.exp(-t / 8)})


def full(labels: list[str] = LABELS, features: int = 160, seed: int = 0) -> ReportData:
    """A run that worked."""
    rng = np.random.default_rng(seed)
    rows = [atlas_row(feature, labels, rng) for feature in range(features)]
    found = findings(rows, labels)
    raw = [
        Finding(f.label, i * 7, -f.r * 0.6, -f.r * 0.6 - 0.05, -f.r * 0.6 + 0.05, 0.5 + (f.auroc - 0.5) * 0.7,
                f.auroc * 0.7 + 0.1, f.auroc * 0.7 + 0.2, f.positives, f.negatives)
        for i, f in enumerate(found)
    ]  # fmt: skip
    return ReportData(
        title="CheXpert, MedCLIP embeddings, TopK SAE with 512 features",
        notice="Synthetic phantom radiographs: a toy for trying the software.",
        counts={"images": 9214, "patients": 3120, "held-out patients": 812, "labels": len(labels)},
        not_ok={"truncated": 7, "not_an_image": 2},
        provenance={"dataset": "phantom", "encoder": "medclip-small", "sae": "sae-3f9a1c20", "version": "0.1.0"},
        labels=labels,
        sae={"r2": 0.9314, "fvu": 0.0686, "l0": 31.97, "dead": 0.03125, "width": 512, "alive": 496},
        entropy=EntropySummary(2.2517, 2.3811, 2.3702, 0.0041, 2.3728, 0.0049, len(labels), 496, 512),
        log=training_log(40),
        atlas=pa.Table.from_pylist(rows, schema=schema.atlas(len(labels))),
        findings=found,
        raw_findings=raw,
        thumbnail=lambda image_id: picture(sum(map(ord, image_id)) % 12),
        stages=[
            {"name": "embeddings", "artifact": "embeddings-81d0c2aa", "rows": 9214, "not_ok": 9, "seconds": 312.44},
            {"name": "manifest", "artifact": "manifest-77aa01d3", "rows": 9214, "not_ok": 0, "seconds": 0.0},
            {"name": "sae", "artifact": "sae-3f9a1c20", "rows": 40, "not_ok": None, "seconds": 58.1},
        ],
    )


def minimal() -> ReportData:
    """A run with no labels, no live feature and nothing recorded."""
    nothing = float("nan")
    return ReportData(
        title="Empty",
        notice=None,
        counts={},
        not_ok={},
        provenance={},
        labels=[],
        sae={},
        entropy=EntropySummary(nothing, nothing, nothing, nothing, nothing, nothing, 0, 0, 0),
        log=training_log(0),
        atlas=schema.atlas(0).empty_table(),
        findings=[],
        raw_findings=[],
        thumbnail=lambda image_id: None,
        stages=[],
    )
