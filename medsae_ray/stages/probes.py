"""Stage `probes`: what all dimensions and all features together know of each label, fitted by Ray tasks.

Beside the probes is the difference of class means of all dimensions, which takes no fit.
"""

from typing import Any

import numpy as np
import pyarrow as pa
import ray

from medsae_ray.cluster.demands import task_demand
from medsae_ray.core.analysis.mean_difference import mean_difference
from medsae_ray.core.analysis.probes import Probed, ProbeRows, ProbeWork, gathered, probe, probe_rows
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.columns import nan_to_null
from medsae_ray.core.artifacts.metrics import ManifestMetrics, ProbesMetrics, SaeMetrics, metrics_of
from medsae_ray.runtime.in_flight import in_flight
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.runtime.tries import COMPUTING, Tries
from medsae_ray.stages.features import features_parents, group_sums, labels_of

SPACES = ("raw", "sae")
MEANS = "means"


@ray.remote(num_cpus=1, max_retries=-1)
def _probe(tries: Tries, piece: str, x_nK: Any, y_n: np.ndarray, role_n: np.ndarray, level: float) -> Probed:
    tries.begin(piece, COMPUTING)
    return probe(x_nK, y_n, role_n, level)


def _probes(run: Run, draft: Draft) -> Made:
    labels = labels_of(run, draft)
    width = metrics_of(draft.parents["sae"], SaeMetrics)["config"]["width"]
    embeddings, activations = (draft.parents[name] for name in ("embeddings", "activations"))
    work = ProbeWork(embeddings, activations, labels.shard_N, probe_rows(labels), width)
    sample = gathered(list(run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups")))
    role_n = np.where(labels.test_N, 2, np.where(labels.training_N, 0, 1))[sample.row_n]
    names = metrics_of(draft.parents["manifest"], ManifestMetrics)["labels"]
    y_nL, level = labels.y_NL[sample.row_n], run.recipe.what.features.level
    rows = [
        _row(name, space, found)
        for name, y_n, fitted in zip(names, y_nL.T, _fitted(run, sample, y_nL, role_n), strict=True)
        for space, found in (
            *zip(SPACES, fitted, strict=True),
            (MEANS, mean_difference(sample.raw_nD, y_n, role_n, level)),
        )
    ]
    table = pa.Table.from_pylist(rows, schema=schema.probes())
    used = ProbesMetrics(fitted=int((role_n < 2).sum()), measured=int((role_n == 2).sum()))
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], used)


def _fitted(run: Run, sample: ProbeRows, y_nL: np.ndarray, role_n: np.ndarray) -> list[list[Probed]]:
    """Label by label, of dimensions and of features."""
    level, labels = run.recipe.what.features.level, y_nL.shape[1]
    with run.bar("probes", labels, "labels") as bar:
        if run.recipe.how.engine == "loop":
            found = []
            for y_n in y_nL.T:
                found.append([probe(x_nK, y_n, role_n, level) for x_nK in (sample.raw_nD, sample.sae_nF)])
                bar.advance()
            return found
        shared = dict(zip(SPACES, map(ray.put, (sample.raw_nD, sample.sae_nF)), strict=True))
        done = []
        with Tries(run.recipe.how.encode.retries).kept() as tries:
            tasks = [
                [
                    _probe.remote(tries, f"probe {label} ({space})", x_nK, y_n, role_n, level)
                    for space, x_nK in shared.items()
                ]
                for label, y_n in enumerate(y_nL.T)
            ]
            with in_flight([task for pair in tasks for task in pair]):
                for pair in tasks:
                    done.append(ray.get(pair))
                    bar.advance()
        return done


def _row(label: str, space: str, found: Probed) -> dict[str, Any]:
    area, low, high, positives, negatives = (nan_to_null(value) for value in found.area)
    counts = {"positives": positives, "negatives": negatives, "patients": found.patients}
    return {
        "label": label,
        "space": space,
        "auroc": area,
        "low": low,
        "high": high,
        "strength": found.strength,
        **counts,
    }


def _what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    return {"level": what.features.level, "uncertain": what.uncertain, "blank": what.blank}


PROBES = Stage("probes", 2, features_parents, _what, _probes, demands=lambda recipe: (task_demand("probes"),))
