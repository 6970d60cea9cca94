"""The probes of many targets: their rows, and the figures over all of them.

Legend: n images of the table, T targets, P ranked columns, F features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medsae_ray.core.analysis.auroc import Auroc
from medsae_ray.core.analysis.values import Ints
from medsae_ray.core.artifacts.columns import nan_to_null
from medsae_ray.core.artifacts.recovery import CurvePoint
from medsae_ray.core.probing.curves import (
    SPACE_OF,
    Fitted,
    Ranked,
    Rules,
    Task,
    fitted,
    measured,
    rankings,
    too_few,
)
from medsae_ray.core.probing.ranking import by_group
from medsae_ray.core.probing.shares import DENSE, recovery
from medsae_ray.core.probing.spaces import FIT, JUDGE, TEST, Table
from medsae_ray.core.probing.targets import Target

Rankings = Mapping[str, Ranked | None] | None
"""What `rankings` returned of a target; None if it cannot be fitted."""
Row = dict[str, Any]
"""A row of `artifacts.recovery.rows`."""
_DEAD = {"sae": "no feature that varies over the training patients", "raw": "no dimension that varies over them"}


def rank(table: Table, targets: Sequence[Target], rules: Rules) -> list[Rankings]:
    """Fit the probes on all columns of each target, and order the columns."""
    return [None if lacks(table, target) else rankings(_task(table, target), rules) for target in targets]


def _task(table: Table, target: Target) -> Task:
    y_fit, y_judge = (target.y_N[table.rows[role]] for role in (FIT, JUDGE))
    return Task.of(target.name, table.fit, y_fit, table.judge, y_judge)


def lacks(table: Table, target: Target) -> str | None:
    """Return the reason not to fit a target; None without one."""
    return target.untested or too_few(target.y_N[table.rows[FIT]], "training")


def group_orders(targets: Sequence[Target], found: Sequence[Rankings], most: int) -> dict[str, Ints]:
    """Return group -> the features [P] in SAIL's order."""
    features: dict[str, list[Ranked]] = {}
    pairs = sorted(zip(targets, found, strict=True), key=lambda pair: pair[0].name)  # in no order of the recipe
    for target, of in pairs:
        if of and (ranked := of["sae"]):
            features.setdefault(target.group, []).append(ranked)
    return {
        group: by_group(np.stack([r.weight_K for r in of]), np.any([r.varies_K for r in of], axis=0), most)
        for group, of in features.items()
    }


def probe_rows(
    table: Table,
    targets: Sequence[Target],
    found: Sequence[Rankings],
    orders: Mapping[str, Ints],
    rules: Rules,
    level: float,
) -> list[Row]:
    """Fit all probes of some targets, test them, and return a row for each."""
    rows = []
    for target, of in zip(targets, found, strict=True):
        group_P = orders.get(target.group, np.arange(0))
        rows += _rows(table, target, fitted(_task(table, target), of, group_P, rules) if of else [], level)
    return rows


def _rows(table: Table, target: Target, probes: Sequence[Fitted], level: float) -> list[Row]:
    y_n = target.y_N[table.rows[TEST]]
    if reason := lacks(table, target) or too_few(y_n, "test"):
        return [_untested(target, None, reason)]
    areas = measured(probes, table.test, y_n, level)
    there = {SPACE_OF[one.kind] for one in probes}
    missing = [(kind, _DEAD[SPACE_OF[kind]]) for kind in ("dimensions", "features") if SPACE_OF[kind] not in there]
    return [
        *(_row(target, one, area) for one, area in zip(probes, areas, strict=True)),
        *(_untested(target, kind, reason) for kind, reason in missing),
    ]


def _row(target: Target, one: Fitted, area: Auroc) -> Row:
    columns = None if one.columns_P is None else one.columns_P.tolist()
    return {
        "target": target.name,
        "group": target.group,
        "kind": one.kind,
        "n": columns and len(columns),
        "auroc": nan_to_null(area.auc),
        "low": nan_to_null(area.low),
        "high": nan_to_null(area.high),
        "strength": one.strength,
        "positives": area.positives,
        "negatives": area.negatives,
        "patients": one.patients,
        "columns": columns,
        "untested": None,
    }


def _untested(target: Target, kind: str | None, reason: str) -> Row:
    return {"target": target.name, "group": target.group, "kind": kind, "untested": reason}


def curve_points(rows: Sequence[Row], level: float, seed: int) -> list[CurvePoint]:
    """Return the recovery of each kind and size that all targets that count have, in the order of the rows."""
    dense = dense_of(rows)
    areas: dict[tuple[str, int | None], dict[str, float]] = {}
    for row in rows:
        if row["target"] in dense and row["kind"] and row["untested"] is None:
            areas.setdefault((row["kind"], row["n"]), {})[row["target"]] = row["auroc"]
    points = list[CurvePoint]()
    for (kind, n), of in areas.items():
        if len(of) == len(dense):
            found = recovery([of[name] for name in dense], list(dense.values()), level, seed=seed)
            ratio, above = (
                {f"{key}{end}": nan_to_null(value) for end, value in zip(("", "_low", "_high"), share, strict=True)}
                for key, share in (("ratio", found.ratio), ("above_chance", found.above_chance))
            )
            points.append(CurvePoint(kind=kind, n=n, auroc=found.auroc, **ratio, **above))  # type: ignore[typeddict-item]
    return sorted(points, key=lambda point: (list(SPACE_OF).index(point["kind"]), point["n"] is None, point["n"] or 0))


def dense_of(rows: Sequence[Row]) -> dict[str, float]:
    """Return target -> AUROC of all dimensions, for the targets that count."""
    whole = {row["target"]: row["auroc"] for row in rows if row["kind"] == "dimensions" and row["n"] is None}
    return {name: area for name, area in whole.items() if area is not None and area > DENSE}
