"""The features table and the best units of each label, from merged sums.

Legend: F units, L labels.
"""

from dataclasses import asdict
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
from scipy import sparse

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.comoments import Comoments
from medsae_ray.core.analysis.entropy import label_entropy, mean_entropy, null_draws, summarise_null
from medsae_ray.core.analysis.findings import Finding, Tests, areas_of, best_findings, strongest
from medsae_ray.core.analysis.partial_sums import Labels, Sums
from medsae_ray.core.analysis.pearson import fisher_interval
from medsae_ray.core.analysis.values import Floats, Ints
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.columns import nan_to_null, nullable_column, with_null
from medsae_ray.core.artifacts.metrics import EntropyFigures, StoredFinding


class UnitStatistics(NamedTuple):
    """The statistics of one kind of unit ("sae" or "raw")."""

    table: pa.Table
    """The rows of `schema.features`."""
    findings: list[Finding]
    """The unit with the largest correlation of each label."""
    absences: list[Finding]
    """The unit with the most negative correlation of each label."""
    entropy: EntropyFigures


def gather_tests(sums: Sums, labels: Labels) -> Tests:
    """Join the test rows of all groups, ordered by row, with their labels and datasets."""
    samples = sorted((s for s in sums.tests if len(s.row_n)), key=lambda s: int(s.row_n[0]))
    rows = np.concatenate([s.row_n for s in samples]) if samples else np.empty(0, np.int64)
    y_NL, dataset_N = labels.y_NL[rows], np.array(labels.datasets)[labels.dataset_N[rows]]
    values = [s.x_nF for s in samples]
    if not samples:
        return Tests(np.empty((0, len(sums.units.n_active_F))), y_NL, dataset_N)
    x_NF = sparse.vstack(values, format="csc") if sparse.issparse(values[0]) else np.concatenate(values)
    return Tests(x_NF, y_NL, dataset_N)


def unit_statistics(space: str, sums: Sums, labels: Labels, names: list[str], level: float) -> UnitStatistics:
    """Compute the statistics of one kind of unit. A unit's label has the largest |r|; its AUROC is along that sign."""
    r_FL = sums.discovery.pearson()
    low_FL, high_FL = fisher_interval(r_FL, labels.discovery_patients(), level)
    tests = gather_tests(sums, labels)
    best_F = strongest(np.abs(r_FL), axis=1, names=names)
    best_r_F = _taken(r_FL, best_F)
    areas = areas_of(tests, np.arange(len(r_FL)), best_F, best_r_F < 0, level)
    table = _table(space, sums, names, r_FL, low_FL, high_FL, best_F, best_r_F, areas)
    found, absences = (best_findings(p, names, r_FL, low_FL, high_FL, tests, level) for p in (True, False))
    return UnitStatistics(table, found, absences, entropy_summary(sums.heldout, sums.null))


def _taken(r_FL: Floats, best_F: Ints) -> Floats:
    """Return r of each unit with its best label; NaN without one."""
    found_F, units = np.full(len(best_F), np.nan), np.flatnonzero(best_F >= 0)
    found_F[units] = r_FL[units, best_F[units]]
    return found_F


def entropy_summary(heldout: Comoments, null: Comoments) -> EntropyFigures:
    """Return the mean entropy over units with a defined correlation, and the same under label permutations.

    None with fewer than two `labels` that any unit correlates with: entropy needs two.
    """
    r_FL = heldout.pearson()
    labels, entropy = int((~np.isnan(r_FL)).any(axis=0).sum()), label_entropy(r_FL)
    if labels < 2:
        return EntropyFigures(mean=None, normalised=None, null_mean=None, null_sd=None, units=0, labels=labels)
    shuffled = summarise_null(null_draws(null, len(heldout.count_L)))
    return {
        "mean": nan_to_null(mean_entropy(entropy.h_F)),
        "normalised": nan_to_null(mean_entropy(entropy.normalised_F)),
        "null_mean": nan_to_null(shuffled.mean),
        "null_sd": nan_to_null(shuffled.sd),
        "units": int((~np.isnan(entropy.h_F)).sum()),
        "labels": labels,
    }


def _table(
    space: str,
    sums: Sums,
    names: list[str],
    r_FL: Floats,
    low_FL: Floats,
    high_FL: Floats,
    best_F: Ints,
    best_r_F: Floats,
    areas: list[Auroc],
) -> pa.Table:
    units, top = sums.units, sums.units.top.per_unit()
    entropy, n, fewer_F = label_entropy(_spread(sums.heldout)), len(r_FL), best_r_F < 0
    nothing_F = np.full(n, np.nan)
    columns = {
        "space": [space] * n,
        "feature": np.arange(n, dtype=np.int32),
        "n_images": np.full(n, units.n_images),
        "n_active": units.n_active_F,
        "frequency": np.nan_to_num(units.frequency()),
        "mean_active": nullable_column(units.mean_active()),
        "max": nullable_column(np.where(np.isfinite(units.max_F), units.max_F, np.nan)),
        "histogram": units.histogram_FB.tolist(),
        "top_images": [t.image_ids for t in top],
        "top_values": [t.values for t in top],
        "r": r_FL.tolist(),
        "r_low": low_FL.tolist(),
        "r_high": high_FL.tolist(),
        "entropy": nullable_column(entropy.h_F),
        "entropy_normalised": nullable_column(entropy.normalised_F),
        "best_label": [names[b] if b >= 0 else None for b in best_F],
        "best_r": nullable_column(best_r_F),
        "best_p": nullable_column(sums.overlap.p(best_F, fewer_F) if space == "sae" and names else nothing_F),
        "active_auroc": nullable_column(sums.overlap.area(best_F, fewer_F) if space == "sae" and names else nothing_F),
        "auroc": nullable_column(np.array([a.auc for a in areas])),
        "auroc_low": nullable_column(np.array([a.low for a in areas])),
        "auroc_high": nullable_column(np.array([a.high for a in areas])),
        "auroc_positives": [a.positives for a in areas],
        "auroc_negatives": [a.negatives for a in areas],
    }
    declared = schema.features(len(names))
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in declared], schema=declared)


def _spread(heldout: Comoments) -> Floats:
    """Return the correlations for the entropies: none if only a single label has any."""
    r_FL = heldout.pearson()
    return r_FL if (~np.isnan(r_FL)).any(axis=0).sum() > 1 else np.full_like(r_FL, np.nan)


def to_json(findings: list[Finding]) -> list[StoredFinding]:
    """Return findings as JSON values; NaN becomes null."""
    apart = [{name: with_null(area._asdict()) for name, area in f.by_dataset.items()} for f in findings]
    found = [with_null(asdict(f)) | {"by_dataset": areas} for f, areas in zip(findings, apart, strict=True)]
    return cast(list[StoredFinding], found)
