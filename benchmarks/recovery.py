"""Stage `recovery` at SAIL's size: probes of 37 targets on 10 sizes of 8,192 features, beside scikit-learn's saga.

    python benchmarks/recovery.py [--patients 10000] [--targets 37] [--processes 2] [--saga 3] [--json FILE]

The codes are made: 2,300 of 8,192 features are alive, about 100 active on an image, their frequencies as uneven as
those of a trained SAE, and each target follows 5 to 40 of them. The same codes through a random decoder are the
encoder's dimensions. Each process takes one target after the other, as a Ray task would. Times of single fits and of
targets are of the CPU, so that a crowded machine changes them less.
"""

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse, special
from sklearn.linear_model import LogisticRegression

from medsae_ray.config.recovery import SIZES
from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.analysis.probes import ProbeRows
from medsae_ray.core.probing import probed
from medsae_ray.core.probing.curves import Rules, too_few
from medsae_ray.core.probing.elastic_net import RHO, balanced, columns_of, fit, linear, log_loss
from medsae_ray.core.probing.spaces import FIT, JUDGE, TEST, Table
from medsae_ray.core.probing.targets import Target

FEATURES, ALIVE, ACTIVE, DIMENSIONS = 8192, 2300, 100, 512
RULES = Rules(tuple(SIZES))
_shared: dict[str, Any] = {}


def made(patients: int, targets: int, seed: int = 0) -> tuple[Table, list[Target]]:
    """Return codes of `patients` to fit, a third as many to judge and to test, and the targets."""
    rng, n = np.random.default_rng(seed), patients + 2 * (patients // 3)
    share = np.minimum(rng.pareto(0.9, ALIVE) + 0.2, 40)
    chance = np.minimum(share / share.sum() * ACTIVE, 0.9)
    rows, columns = np.nonzero(rng.random((n, ALIVE)) < chance)
    place = rng.permutation(FEATURES)[:ALIVE]
    sae_nF = sparse.csr_array((rng.gamma(2, 0.05, len(rows)), (rows, place[columns])), shape=(n, FEATURES))
    raw_nD = sae_nF @ rng.normal(size=(FEATURES, DIMENSIONS)) + rng.normal(0, 0.1, (n, DIMENSIONS))
    role_n = np.repeat([FIT, JUDGE, TEST], [patients, patients // 3, patients // 3])
    common = place[np.argsort(-chance)[:600]]
    values = ProbeRows(np.arange(n), raw_nD.astype(np.float32), sae_nF.astype(np.float32))
    found = [Target(f"t{number}", f"group {number % 12}", _label(sae_nF, common, rng)) for number in range(targets)]
    return Table.of(values, role_n, RULES.most), found


def _label(sae_nF: sparse.csr_array, common: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    chosen = rng.choice(common, int(rng.integers(5, 41)), replace=False)
    columns = columns_of(sae_nF[:, chosen], scaled=True)
    logit = columns.scores(np.append(rng.normal(0, 1.2, len(chosen)), 0.0))
    chance = special.expit(logit - np.quantile(logit, rng.uniform(0.5, 0.95)))
    return np.where(rng.random(len(logit)) < chance, 1.0, 0.0)


def _ranked(place: int) -> tuple[list[probed.Rankings], float]:
    start = time.process_time()
    return probed.rank(_shared["table"], [_shared["targets"][place]], RULES), time.process_time() - start


def _probed(place: int, found: list[probed.Rankings], orders: dict[str, Any]) -> tuple[list[probed.Row], float]:
    start = time.process_time()
    targets = [_shared["targets"][place]]
    return probed.probe_rows(_shared["table"], targets, found, orders, RULES, 0.95), time.process_time() - start


def stage(processes: int) -> dict[str, Any]:
    """Return the seconds of the whole computation, and what it found."""
    targets, start = _shared["targets"], time.perf_counter()
    places = range(len(targets))
    with ProcessPoolExecutor(processes, get_context("fork")) as pool:
        ranked = list(pool.map(_ranked, places))
        middle = time.perf_counter()
        orders = probed.group_orders(targets, [one for found, _ in ranked for one in found], RULES.most)
        done = list(pool.map(_probed, places, [found for found, _ in ranked], [orders] * len(targets)))
    rows = [row for found, _ in done for row in found]
    points = {(point["kind"], point["n"]): point for point in probed.curve_points(rows, 0.95, 0)}
    return {
        "seconds": time.perf_counter() - start,
        "ranking": middle - start,
        "probes": len(rows),
        "counted": len(probed.dense_of(rows)),
        "dense": points["dimensions", None]["auroc"],
        "ten": {kind: points[kind, 10]["auroc"] for kind, n in points if n == 10},
        "cpu_seconds": sum(seconds for _, seconds in (*ranked, *done)),
        "of_targets": [one + two for (_, one), (_, two) in zip(ranked, done, strict=True)],
        "rows": rows,
    }


def beside_saga(place: int, rows: Sequence[probed.Row]) -> Iterator[dict[str, Any]]:
    """Yield one target's fits by both solvers with SAIL's settings: all features, then each size of its order."""
    table, target = _shared["table"], _shared["targets"][place]
    y_fit, y_test = (target.y_N[table.rows[role]] for role in (FIT, TEST))
    orders = [row["columns"] for row in rows if row["target"] == target.name and row["kind"] == "features"]
    for chosen in sorted(orders, key=lambda columns: -len(columns or range(FEATURES))):
        x_fit, x_test = (of["sae"] if chosen is None else of["sae"][:, chosen] for of in (table.fit, table.test))
        start = time.process_time()
        columns = columns_of(x_fit, scaled=True)
        weights = fit(columns, y_fit, 1.0)
        ours, start = time.process_time() - start, time.process_time()
        scaled = sparse.csr_array(x_fit.astype(np.float64).multiply(columns.scale_K[None]))
        scaled.indices, scaled.indptr = scaled.indices.astype(np.int32), scaled.indptr.astype(np.int32)
        steps = 1000 if chosen is None else 200
        options = {"penalty": "elasticnet", "l1_ratio": RHO, "solver": "saga", "class_weight": "balanced"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            other = LogisticRegression(C=1.0, max_iter=steps, random_state=42, **options).fit(scaled, y_fit)
        theirs = time.process_time() - start
        found = linear(columns, weights)
        scores = x_test.multiply(columns.scale_K[None]) @ other.coef_[0]
        yield {
            "target": target.name,
            "columns": len(chosen) if chosen else x_fit.shape[1],
            "ours_s": ours,
            "saga_s": theirs,
            "ours": _objective(scaled, y_fit, weights[:-1], found.intercept),
            "saga": _objective(scaled, y_fit, other.coef_[0], other.intercept_[0]),
            "ours_auroc": auroc(found.scores(x_test), y_test).auc,
            "saga_auroc": auroc(scores, y_test).auc,
            "saga_steps": int(other.n_iter_[0]),
        }


def _objective(x_NK: sparse.csr_array, y_N: np.ndarray, w_K: np.ndarray, intercept: float) -> float:
    losses = balanced(y_N) @ log_loss(x_NK @ w_K + intercept, y_N)
    return float(losses + RHO * np.abs(w_K).sum() + (1 - RHO) / 2 * w_K @ w_K)


def main() -> None:
    """Measure, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, value in (("patients", 10_000), ("targets", 37), ("processes", 2), ("saga", 3)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    _shared["table"], _shared["targets"] = made(args.patients, args.targets)
    table = _shared["table"]
    lost = [target.name for target in _shared["targets"] if too_few(target.y_N[table.rows[FIT]], "training")]
    print(f"{args.patients:,} patients, {table.fit['sae'].nnz:,} active features, {len(lost)} targets too rare")
    found = stage(args.processes)
    rows = found.pop("rows")
    print(json.dumps({**found, "of_targets": sorted(round(s, 1) for s in found["of_targets"])}, indent=1), flush=True)
    compared = []
    for place in range(args.saga):
        for one in beside_saga(place, rows):
            compared.append(one)
            print(json.dumps(one), flush=True)
    if args.json:
        args.json.write_text(json.dumps(found | {"saga": compared}, indent=1))


if __name__ == "__main__":
    main()
