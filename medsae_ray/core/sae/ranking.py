"""The results of a sweep: one row per SAE, best fronts first."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Record
from medsae_ray.core.artifacts.metrics import SaeMetrics, metrics_of

DIED = "died"
"""The reason of an SAE whose worker died too often."""
MEASURES = ("fvu", "r2", "r2_scalar", "l0", "cosine")
"""The columns that are copied from an SAE's last epoch, of held-out embeddings."""


class Failure(NamedTuple):
    """The reason for a missing SAE of a sweep."""

    reason: str
    """A stable word that is counted: diverged, memory or died."""
    message: str


def result_row(member: int, changes: Mapping[str, Any], found: Record | Failure) -> dict[str, Any]:
    """Return the row of one SAE; `found` is its artifact's record."""
    row = {"member": member, "settings": json.dumps(changes), "reason": None, "message": None}
    if isinstance(found, Failure):
        return row | {"reason": found.reason, "message": found.message}
    kept = metrics_of(found, SaeMetrics)["last_epoch"]
    return (
        row
        | {key: value for key, value in kept.items() if key in MEASURES}
        | {"artifact": found.name, "dead": kept["dead_share"], "epochs": kept["epoch"], "seconds": found.run["seconds"]}
    )


def settings_text(settings: str) -> str:
    """Format settings as `k 32, levels 64-256`, without a width that the levels imply."""
    values = json.loads(settings)
    if values.get("levels"):
        values.pop("width", None)
    said = {key: "-".join(map(str, value)) if isinstance(value, list) else value for key, value in values.items()}
    return ", ".join(f"{key} {value}" for key, value in said.items())


def ranked(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Return the table of a sweep, with the front of every SAE: by fronts, then by L0; failed SAEs come last."""
    there = [row for row in rows if row["reason"] is None]
    fronts = pareto_fronts(np.array([(row["l0"], row["fvu"]) for row in there]).reshape(-1, 2)).tolist()
    order = sorted(range(len(there)), key=lambda i: (fronts[i], there[i]["l0"], there[i]["member"]))
    sorted_rows = [there[i] | {"front": fronts[i], "pareto": fronts[i] == 1} for i in order]
    failed = [row | {"pareto": False} for row in rows if row["reason"] is not None]
    return pa.Table.from_pylist([*sorted_rows, *failed], schema=schema.sweep())


def winner(table: pa.Table) -> str:
    """Return the settings (JSON) of the chosen SAE from a `ranking` table."""
    (settings,) = table.filter(table["chosen"])["settings"].to_pylist()
    return str(settings)


def pareto_fronts(points_N2: np.ndarray) -> np.ndarray:
    """Return the front [N], from 1, of points with two costs. Front 1 are those that no other beats, that is, none is
    as low in both and lower in one; front 2 those that only front 1 beats; and so on. Equal points share a front."""
    fronts_N = np.zeros(len(points_N2), np.int64)
    as_low_NN = np.all(points_N2[:, None] <= points_N2[None], axis=2)
    beats_NN = as_low_NN & ~as_low_NN.T
    front = 0
    while len(left := np.flatnonzero(fronts_N == 0)):
        front += 1
        beaten = beats_NN[np.ix_(left, left)].any(0)
        fronts_N[left[~beaten]] = front
    return fronts_N
