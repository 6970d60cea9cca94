"""Names by label, and the atlas: every feature with its strongest name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.false_discovery import benjamini_hochberg
from medsae_ray.core.analysis.findings import headed
from medsae_ray.core.artifacts import schema

SOURCES = ("vlm", "label", "vocabulary")
"""The sources of names in order of preference."""
NAME_Q = 0.05
"""The largest false discovery rate over all features at which a label becomes a feature's name."""
LEAST_AREA, LEAST_R = 0.6, 0.3
"""The least AUROC of "active or inactive" for the label, or else the least size of r, for a label's name. Over many
patients a feature with next to no relation to a label is significant too."""
DIRECTIONS = 2
"""The two directions of a name: a label's presence and its absence."""


def label_names(features: pa.Table, patients_L: Sequence[int], names: list[str]) -> pa.Table:
    """Return the names of source `label`: each feature's best label or, where r is negative, its absence ("no Edema").

    p is `best_p`, times the labels and directions in the choice (Bonferroni); q is over the features (Benjamini &
    Hochberg 1995). A t-test of r would not do: with a rare label and a sparse feature, two coincidences make an r that
    no normal distribution would. All values are of discovery patients.
    """
    rows = features.filter(pa.compute.equal(features["space"], "sae")).to_pylist()
    n_of = dict(zip(names, patients_L, strict=True))
    p_F = np.array([_name_p(row, len(names)) for row in rows])
    q_F = benjamini_hochberg(p_F)
    out = [_name(row, float(q), n_of) for row, q in zip(rows, q_F, strict=True)]
    return pa.Table.from_pylist(out, schema=schema.names())


def _name_p(row: dict[str, Any], n_labels: int) -> float:
    """Return the corrected p; 1 for a feature without a correlation."""
    return min(1.0, row["best_p"] * n_labels * DIRECTIONS) if row["best_label"] is not None else 1.0


def _name(row: dict[str, Any], q: float, n_of: dict[str, int]) -> dict[str, Any]:
    label, why = row["best_label"], "no correlation is defined"
    if label is not None:
        tells = "" if row["active_auroc"] is None else f"; AUROC of active or silent {row['active_auroc']:.2f}"
        why = f"r = {row['best_r']:.3f} over {n_of[label]} patients, q = {q:.2g}{tells}"
    named = label is not None and q <= NAME_Q and _tells(row)
    return {
        "feature": row["feature"],
        "source": "label",
        "status": "named" if named else "abstained",
        "name": headed(label, row["best_r"]) if named else None,
        "alternatives": [],
        "attempts": 0,
        "evidence": why,
    }


def _tells(row: dict[str, Any]) -> bool:
    """Return True if the effect is large enough for a name."""
    return abs(row["best_r"]) >= LEAST_R or (row["active_auroc"] or 0.0) >= LEAST_AREA


def atlas(features: pa.Table, names: pa.Table, scores: pa.Table | None = None) -> pa.Table:
    """Return the SAE's features, each with its strongest name.

    A verified name precedes an unverified one. Among equals the vision-language model's is first, as it was written
    from images without the labels. A label's precedes a vocabulary's, as it rests on images with the label.
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
