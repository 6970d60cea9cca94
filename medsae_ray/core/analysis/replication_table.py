"""Replication as a table of pairs, and as one line for each finding.

Legend: D datasets, F features, L labels, P selected pairs.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.findings import notable, strongest
from medsae_ray.core.analysis.replication import Correlations, ReplicatedPairs
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.columns import nan_to_null, nullable_column
from medsae_ray.core.artifacts.metrics import Correlation, ReplicatedFinding

REPLICATED, NOT_REPLICATED, UNTESTED = "replicated", "not_replicated", "untested"


def verdicts(result: ReplicatedPairs) -> np.ndarray:
    """Return [F, L] texts, meaningful for selected pairs."""
    return np.where(result.untested(), UNTESTED, np.where(result.replicated(), REPLICATED, NOT_REPLICATED))


def pair_table(
    found: Correlations, results: Sequence[ReplicatedPairs], names: Sequence[str], labels: Sequence[str]
) -> pa.Table:
    """Build `schema.replication`: every selected pair of every source, and its values in each dataset."""
    parts = [_pairs(found, result, other, names, labels) for result in results for other in range(len(names))]
    return pa.concat_tables(parts)


def _pairs(
    found: Correlations, result: ReplicatedPairs, other: int, names: Sequence[str], labels: Sequence[str]
) -> pa.Table:
    feature_P, label_P = np.nonzero(result.selected_FL)
    at = (other, feature_P, label_P)
    told_P = result.can_tell_DL[other][label_P]
    columns: dict[str, Any] = {
        "source": [names[result.source]] * len(feature_P),
        "feature": feature_P.astype(np.int32),
        "label": np.array(labels, dtype=object)[label_P],
        "dataset": [names[other]] * len(feature_P),
        "r": nullable_column(found.r_DFL[at]),
        "r_low": nullable_column(found.low_DFL[at]),
        "r_high": nullable_column(found.high_DFL[at]),
        "patients": found.n_DL[other][label_P],
        "q": nullable_column(result.q_DFL[at]),
        "holds": pa.array(result.holds_DFL[at], mask=~told_P),
        "verdict": verdicts(result)[feature_P, label_P],
    }
    declared = schema.replication()
    return pa.Table.from_arrays([pa.array(columns[f.name], f.type) for f in declared], schema=declared)


def best_pairs(
    found: Correlations, results: Sequence[ReplicatedPairs], names: Sequence[str], labels: Sequence[str]
) -> list[ReplicatedFinding]:
    """Return, for each label and each source that can test it, its best feature there and that pair in each dataset.

    The label's absence is added if it is `notable`. Labels that several datasets can test come first.
    """
    told_L = found.can_tell().sum(axis=0)
    order = sorted(range(len(labels)), key=lambda label: -told_L[label])
    return [row for label in order for result in results for row in _best_of(found, result, label, names, labels)]


def _best_of(
    found: Correlations, result: ReplicatedPairs, label: int, names: Sequence[str], labels: Sequence[str]
) -> list[ReplicatedFinding]:
    r_F, verdict_F = found.r_DFL[result.source][:, label], verdicts(result)[:, label]
    best = [int(strongest(np.where(r_F * sign > 0, np.abs(r_F), np.nan)[:, None], axis=0)[0]) for sign in (1, -1)]
    present, absent = (float(r_F[feature]) if feature >= 0 else None for feature in best)
    shown = [*(best[:1] if present is not None else []), *(best[1:] if notable(present, absent) else [])]
    return [
        {
            "source": names[result.source],
            "label": labels[label],
            "present": bool(r_F[feature] > 0),
            "feature": feature,
            "verdict": str(verdict_F[feature]) if result.selected_FL[feature, label] else "not_selected",
            "datasets": {name: _interval(found, d, feature, label) for d, name in enumerate(names)},
        }
        for feature in shown
    ]


def _interval(found: Correlations, dataset: int, feature: int, label: int) -> Correlation:
    r, low, high = (
        nan_to_null(float(a[dataset, feature, label])) for a in (found.r_DFL, found.low_DFL, found.high_DFL)
    )
    return Correlation(r=r, low=low, high=high)
