"""Stage `ranking`: the SAEs of a sweep on patients that no result is reported on, and which of them a run takes.

Each SAE is a Ray task, which encodes one image of each patient of the splits sae and naming, shard by shard.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import ray

from medsae_ray.cluster.demands import task_demand
from medsae_ray.config import Recipe
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.analysis.probes import probe_rows
from medsae_ray.core.analysis.values import Bools, UnitValues
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft, open_artifact
from medsae_ray.core.artifacts.columns import nan_to_null, readable
from medsae_ray.core.artifacts.layout import Layout, embedding_matrix
from medsae_ray.core.artifacts.metrics import RankingMetrics, SaeMetrics, metrics_of
from medsae_ray.core.probing.choice import Patients, Worth, dense_areas, worth
from medsae_ray.core.sae.activations import EncodeWork
from medsae_ray.core.sae.choice import Figures, best, mean_ranks, near_front
from medsae_ray.core.sae.codes import Codes, CodesWork
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.runtime.tries import COMPUTING, Tries
from medsae_ray.stages.features import labels_of
from medsae_ray.stages.targets import targets_in


class Measured(NamedTuple):
    """One SAE on naming patients."""

    l0: float
    fvu: float
    worth: Worth

    @property
    def figures(self) -> Figures:
        """The figures that decide."""
        return Figures(self.l0, self.fvu, *self.worth)


@dataclass(frozen=True)
class Chosen:
    """The images by which SAEs are compared: one of each patient that is not tested on."""

    embeddings: Artifact
    labels: Labels
    rows_N: Bools
    """True for these images."""
    target_nT: np.ndarray
    """What probes are to tell of them: labels and metadata."""

    @classmethod
    def of(cls, recipe: Recipe, embeddings: Artifact, manifest: Artifact, labels: Labels, rows_N: Bools) -> "Chosen":
        """Take the rows that are True. The patients that trained the SAEs decide which targets there are."""
        row_n = np.flatnonzero(rows_N)
        targets = targets_in(recipe, manifest, labels, row_n, labels.training_N[row_n])
        y_nT = np.array([target.y_N for target in targets]).reshape(len(targets), len(row_n)).T
        return cls(embeddings, labels, rows_N, y_nT)

    def dense(self) -> np.ndarray:
        """Return the AUROC [T] of probes on all dimensions of the encoder."""
        shards = [part.shard for part in self.embeddings.parts]
        fit, other = self._patients(np.flatnonzero(self.rows_N), np.concatenate([*map(self._raw, shards)]))
        return dense_areas(fit, other)

    def measure(self, sae: Artifact, dense_T: np.ndarray, tokens: int) -> Measured:
        """Measure one SAE."""
        width = metrics_of(sae, SaeMetrics)["config"]["width"]
        work = CodesWork(EncodeWork(self.embeddings, sae), width, self.labels.shard_N, self.rows_N)
        codes = Codes.joined([work.compute(shards) for shards in work.groups()])
        other = ~self.labels.training_N[codes.row_n]
        error, norm = codes.sq_error_n[other].sum(), codes.sq_norm_n[other].sum()
        l0 = float(codes.active_n[other].mean()) / tokens
        fit, naming = self._patients(codes.row_n, codes.z_nF)
        return Measured(l0, float(error / norm), worth(fit, naming, dense_T))

    def _raw(self, shard: int) -> np.ndarray:
        rows = np.flatnonzero(self.labels.shard_N == shard)
        values, ok = embedding_matrix(self.embeddings.part(shard))
        return np.asarray(values[self.rows_N[rows[ok]]])

    def _patients(self, row_n: np.ndarray, x_nK: UnitValues) -> tuple[Patients, Patients]:
        """Return the patients that probes are fitted on, and the others."""
        fit, y_nL = self.labels.training_N[row_n], self.labels.y_NL[row_n]
        target_nT = self.target_nT[np.searchsorted(np.flatnonzero(self.rows_N), row_n)]
        sets = np.flatnonzero(fit), np.flatnonzero(~fit)
        one, other = (Patients(x_nK[chosen], y_nL[chosen], target_nT[chosen]) for chosen in sets)
        return one, other


@ray.remote(num_cpus=1, max_retries=-1)
def _dense(tries: Tries, chosen: Chosen) -> np.ndarray:
    tries.begin("dense probes", COMPUTING)
    return chosen.dense()


@ray.remote(num_cpus=1, max_retries=-1)
def _measure(tries: Tries, chosen: Chosen, sae: Artifact, dense_T: np.ndarray, tokens: int) -> Measured:
    tries.begin(sae.name, COMPUTING)
    return chosen.measure(sae, dense_T, tokens)


def _make(run: Run, draft: Draft) -> Made:
    embeddings = draft.parents["embeddings"]
    labels = labels_of(run, draft)
    kept = labels.discovery_one_N & probe_rows(labels) & readable(embeddings)
    chosen = Chosen.of(run.recipe, embeddings, draft.parents["manifest"], labels, kept)
    rows = [row for row in draft.parents["sweep"].table().to_pylist() if row["artifact"]]
    saes = [open_artifact(run.root.child(row["artifact"]).uri) for row in rows]
    tokens = Layout.of(embeddings.schema).tokens
    found = list(run.track(_measured(run, chosen, saes, tokens), "ranking", len(saes), "SAEs"))
    table = pa.Table.from_pylist(_ranked(rows, found), schema=schema.ranking())
    metrics = RankingMetrics(saes=len(rows), near=sum(table["near_front"].to_pylist()), patients=int(kept.sum()))
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], metrics)


def _measured(run: Run, chosen: Chosen, saes: list[Artifact], tokens: int) -> Iterator[Measured]:
    if run.recipe.how.engine == "loop":
        dense_T = chosen.dense()
        yield from (chosen.measure(sae, dense_T, tokens) for sae in saes)
        return
    run.connect()
    shared = ray.put(chosen)
    with Tries(run.recipe.how.encode.retries).kept() as tries:
        dense = _dense.remote(tries, shared)
        yield from map(ray.get, [_measure.remote(tries, shared, sae, dense, tokens) for sae in saes])


def _ranked(rows: list[dict[str, Any]], found: list[Measured]) -> list[dict[str, Any]]:
    """Return the rows of the table, the chosen SAE first, then by rank."""
    figures = [one.figures for one in found]
    taken, near_S, rank_S = best(figures), near_front(figures), mean_ranks(figures)
    known = any(f.needed == f.needed or f.monosemanticity == f.monosemanticity for f in figures)
    table = [
        {name: row[name] for name in ("member", "settings", "artifact")}
        | {"l0": one.l0, "fvu": one.fvu, "near_front": bool(near_S[place]), "chosen": place == taken}
        | {name: nan_to_null(value) for name, value in one.worth._asdict().items()}
        | {"rank": float(rank_S[place]) if known else None}
        for place, (row, one) in enumerate(zip(rows, found, strict=True))
    ]
    order = sorted(range(len(table)), key=lambda i: (i != taken, not near_S[i], rank_S[i], figures[i].l0))
    return [table[i] for i in order]


def _what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    return {"uncertain": what.uncertain, "blank": what.blank, "thresholds": what.recovery.thresholds}


RANKING = Stage(
    "ranking",
    2,
    lambda recipe: ("embeddings", "manifest", "sweep"),
    _what,
    _make,
    demands=lambda recipe: (task_demand("ranking"),),
    lacks=lambda recipe: None if recipe.what.sweep else "what.sweep, the SAEs to rank",
)
