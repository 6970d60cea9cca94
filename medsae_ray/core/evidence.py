"""Merged sums -> the features table, the best unit per label, and names by label.

Legend: F units, L labels.
"""

from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from scipy import sparse, stats

from medsae_ray.core import schema
from medsae_ray.core.analysis.auroc import Auroc, auroc_columns
from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.entropy import label_entropy, mean_entropy, null_draws, summarise_null
from medsae_ray.core.analysis.pearson import fisher_interval
from medsae_ray.core.analysis.values import Floats, Ints, UnitValues
from medsae_ray.core.features import Labels, Sums
from medsae_ray.core.report.data import Finding

SOURCES = ("vlm", "label", "vocabulary")
"""Of names, the strongest first."""
NAME_Q = 0.05
"""A label becomes a feature's name only if its false discovery rate over all features is at most this."""


class Tests(NamedTuple):
    """The test images of all groups, in manifest order."""

    x_NF: UnitValues
    y_NL: Floats


class Evidence(NamedTuple):
    """The statistics of one kind of unit ("sae" or "raw")."""

    table: pa.Table
    """schema.features."""
    findings: list[Finding]
    entropy: dict[str, Any]


def gather_tests(sums: Sums, labels: Labels) -> Tests:
    samples = sorted((s for s in sums.tests if len(s.row_n)), key=lambda s: int(s.row_n[0]))
    rows = np.concatenate([s.row_n for s in samples]) if samples else np.empty(0, np.int64)
    units = len(sums.units.n_active_F)
    values = [s.x_nF for s in samples]
    if not samples:
        return Tests(np.empty((0, units)), labels.y_NL[rows])
    x_NF = sparse.vstack(values, format="csc") if sparse.issparse(values[0]) else np.concatenate(values)
    return Tests(x_NF, labels.y_NL[rows])


def evidence(space: str, sums: Sums, labels: Labels, names: list[str], level: float) -> Evidence:
    """All statistics of one kind of unit.

    A feature's label is the one it correlates with most; a raw dimension has no direction of its own, so the largest
    |r| counts and its AUROC is taken along that sign.
    """
    r_FL = sums.discovery.pearson()
    strength_FL = r_FL if space == "sae" else np.abs(r_FL)
    tests = gather_tests(sums, labels)
    best_F = _argmax(strength_FL, axis=1)
    areas = _areas(tests, r_FL, best_F, np.arange(len(r_FL)), level)
    low_FL, high_FL = fisher_interval(r_FL, labels.discovery_patients(), level)
    table = _table(space, sums, names, r_FL, low_FL, high_FL, best_F, areas)
    best_L = _argmax(strength_FL, axis=0)
    found = np.flatnonzero(best_L >= 0)
    of_label = _areas(tests, r_FL, found, best_L[found], level)
    findings = [
        _finding(names[label], int(unit), r_FL[unit, label], low_FL[unit, label], high_FL[unit, label], area)
        for label, unit, area in zip(found, best_L[found], of_label, strict=True)
    ]
    return Evidence(table, findings, entropy_summary(sums.heldout, sums.null))


def entropy_summary(heldout: Comoments, null: Comoments) -> dict[str, Any]:
    """Mean entropy over units with a defined correlation, and the same under label permutations."""
    entropy = label_entropy(heldout.pearson())
    shuffled = summarise_null(null_draws(null, len(heldout.count_L)))
    return {
        "mean": mean_entropy(entropy.h_F),
        "normalised": mean_entropy(entropy.normalised_F),
        "null_mean": shuffled.mean,
        "null_sd": shuffled.sd,
        "units": int((~np.isnan(entropy.h_F)).sum()),
    }


def label_names(features: pa.Table, patients_L: Ints, names: list[str]) -> pa.Table:
    """Name source `label`: the best label of each feature, if it is more than chance over all features and labels.

    p is `best_p`, times the number of labels since the best was taken (Bonferroni); q is over the features
    (Benjamini & Hochberg 1995). A t-test of r would not do: with a rare label and a sparse feature, two coincidences
    make an r that no normal distribution would.
    """
    rows = features.filter(pa.compute.equal(features["space"], "sae")).to_pylist()
    n_of = dict(zip(names, patients_L, strict=True))
    p_F = np.array([_name_p(row, len(names)) for row in rows])
    q_F = stats.false_discovery_control(p_F) if len(p_F) else p_F
    out = [_name(row, float(q), n_of) for row, q in zip(rows, q_F, strict=True)]
    return pa.Table.from_pylist(out, schema=schema.names())


def _name_p(row: dict[str, Any], n_labels: int) -> float:
    """1 for a feature whose best correlation is not positive."""
    return min(1.0, row["best_p"] * n_labels) if row["best_label"] is not None and row["best_r"] > 0 else 1.0


def _name(row: dict[str, Any], q: float, n_of: dict[str, int]) -> dict[str, Any]:
    label, why = row["best_label"], "no correlation is defined"
    if label is not None:
        why = f"r = {row['best_r']:.3f} over {n_of[label]} patients, q = {q:.2g}"
    named = label is not None and row["best_r"] > 0 and q <= NAME_Q
    return {
        "feature": row["feature"],
        "source": "label",
        "status": "named" if named else "abstained",
        "name": label if named else None,
        "alternatives": [],
        "attempts": 0,
        "evidence": why,
    }


def atlas(features: pa.Table, names: pa.Table, scores: pa.Table | None = None) -> pa.Table:
    """The SAE's features, each with its strongest name.

    A verified name comes before one that is not. Among equals the vision-language model's is first: it was written from
    images, without sight of the labels. A label's comes before a vocabulary's, as it rests on images that have it.
    """
    sae = features.filter(pa.compute.equal(features["space"], "sae")).sort_by("feature")
    score_of = {(row["feature"], row["source"]): row for row in (scores.to_pylist() if scores else [])}
    best: dict[int, dict[str, Any]] = {}
    for row in names.filter(names["name"].is_valid()).to_pylist():
        named = row | {"score": score_of.get((row["feature"], row["source"]), {})}
        if row["feature"] not in best or _strength(named) > _strength(best[row["feature"]]):
            best[row["feature"]] = named
    rows = [best.get(feature, {"score": {}}) for feature in sae["feature"].to_pylist()]
    declared = schema.atlas(getattr(sae.schema.field("r").type, "list_size", 0))
    columns = {
        "name": [row.get("name") for row in rows],
        "name_source": [row.get("source") for row in rows],
        "definition": [row.get("definition") for row in rows],
        "verdict": [row["score"].get("verdict") for row in rows],
        **{f"detection_{column}": [row["score"].get(column) for row in rows] for column in schema.DETECTION},
    }
    for name, values in columns.items():
        sae = sae.append_column(declared.field(name), pa.array(values, declared.field(name).type))
    return sae


def _strength(row: dict[str, Any]) -> tuple[bool, int]:
    return row["score"].get("verdict") == "verified", -SOURCES.index(row["source"])


def _argmax(strength: Floats, axis: int) -> Ints:
    """Index of the largest defined value along `axis`, -1 where none is defined, as in a run without labels."""
    if not strength.shape[axis]:
        return np.full(strength.shape[1 - axis], -1)
    defined = (~np.isnan(strength)).any(axis=axis)
    best = np.where(np.isnan(strength), -np.inf, strength).argmax(axis=axis)
    return np.where(defined, best, -1)


def _areas(tests: Tests, r_FL: Floats, label_J: Ints, unit_J: Ints, level: float) -> list[Auroc]:
    """AUROC of units `unit_J` for `label_J` on the test images, raw dimensions along the sign of their r."""
    x_NJ = tests.x_NF[:, unit_J]
    if not sparse.issparse(x_NJ):
        known_J = label_J >= 0
        x_NJ = np.array(x_NJ)
        x_NJ[:, known_J] *= np.where(r_FL[unit_J[known_J], label_J[known_J]] < 0, -1.0, 1.0)
    return auroc_columns(x_NJ, tests.y_NL, label_J, level)


def _finding(label: str, unit: int, r: float, low: float, high: float, area: Auroc) -> Finding:
    return Finding(
        label, unit, float(r), float(low), float(high), area.auc, area.low, area.high, area.positives, area.negatives
    )


def _table(
    space: str,
    sums: Sums,
    names: list[str],
    r_FL: Floats,
    low_FL: Floats,
    high_FL: Floats,
    best_F: Ints,
    areas: list[Auroc],
) -> pa.Table:
    units, top = sums.units, sums.units.top.per_unit()
    entropy = label_entropy(sums.heldout.pearson())
    best_r_F = np.full(len(r_FL), np.nan)
    best_r_F[best_F >= 0] = r_FL[best_F >= 0, best_F[best_F >= 0]]
    n = len(r_FL)
    columns = {
        "space": [space] * n,
        "feature": np.arange(n, dtype=np.int32),
        "n_images": np.full(n, units.n_images),
        "n_active": units.n_active_F,
        "frequency": np.nan_to_num(units.frequency()),
        "mean_active": _nullable(units.mean_active()),
        "max": _nullable(np.where(np.isfinite(units.max_F), units.max_F, np.nan)),
        "histogram": units.histogram_FB.tolist(),
        "top_images": [t.image_ids for t in top],
        "top_values": [t.values for t in top],
        "r": r_FL.tolist(),
        "r_low": low_FL.tolist(),
        "r_high": high_FL.tolist(),
        "entropy": _nullable(entropy.h_F),
        "entropy_normalised": _nullable(entropy.normalised_F),
        "best_label": [names[b] if b >= 0 else None for b in best_F],
        "best_r": _nullable(best_r_F),
        "best_p": _nullable(sums.overlap.p(best_F) if space == "sae" and names else np.full(n, np.nan)),
        "auroc": _nullable(np.array([a.auc for a in areas])),
        "auroc_low": _nullable(np.array([a.low for a in areas])),
        "auroc_high": _nullable(np.array([a.high for a in areas])),
        "auroc_positives": [a.positives for a in areas],
        "auroc_negatives": [a.negatives for a in areas],
    }
    declared = schema.features(len(names))
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in declared], schema=declared)


def _nullable(values: Floats) -> pa.Array:
    return pa.array(values.astype(np.float64), mask=np.isnan(values))


def plain(findings: list[Finding]) -> list[dict[str, Any]]:
    """Findings as JSON values; NaN becomes null."""
    return [{k: (None if v != v else v) for k, v in asdict(f).items()} for f in findings]
