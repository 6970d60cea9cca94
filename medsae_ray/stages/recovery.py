"""Stage `recovery`: what the strongest features keep of all dimensions, target by target, in Ray tasks.

It is made whole or not at all, so its figures are always over all targets.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import ray

from medsae_ray.cluster.demands import task_demand
from medsae_ray.config import Recipe
from medsae_ray.core.analysis.probes import ProbeWork, gathered, probe_rows
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.metrics import SaeMetrics, metrics_of
from medsae_ray.core.artifacts.recovery import RecoveryMetrics
from medsae_ray.core.artifacts.recovery import rows as recovery_rows
from medsae_ray.core.probing import probed
from medsae_ray.core.probing.curves import STRENGTHS, Rules
from medsae_ray.core.probing.shares import DENSE, recovery
from medsae_ray.core.probing.spaces import FIT, JUDGE, TEST, DimensionsWork, Table
from medsae_ray.core.probing.targets import Target
from medsae_ray.runtime.in_flight import in_flight
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.runtime.tries import COMPUTING, Tries
from medsae_ray.stages.embeddings import RANDOM_EMBEDDINGS
from medsae_ray.stages.features import features_parents, group_sums, labels_of
from medsae_ray.stages.targets import targets_in

T = TypeVar("T")
Computed = Callable[[str, Callable[..., Any], Sequence[tuple[Any, ...]]], Iterator[Any]]
VALUES_PER_TASK = 4_000_000
"""The values that a task goes through about once per target: many targets of a small table, one of a large one."""
TARGETS_PER_TASK = 8
"""The most targets of a task."""


class Inputs(NamedTuple):
    """What all targets are probed with."""

    table: Table
    targets: list[Target]
    """Their labels in the order of the table's rows."""
    rules: Rules
    level: float


@ray.remote(num_cpus=1, max_retries=-1)
def _compute(tries: Tries, piece: str, compute: Callable[..., Any], table: Table, *arguments: Any) -> Any:
    tries.begin(piece, COMPUTING)
    return compute(table, *arguments)


def _recovery(run: Run, draft: Draft) -> Made:
    inputs = _inputs(run, draft)
    rows = list(_rows(run, inputs))
    table = pa.Table.from_pylist(rows, schema=recovery_rows())
    return Made([draft.writer(table.schema).write(0, table, table.num_rows)], _metrics(inputs, table.to_pylist()))


def _inputs(run: Run, draft: Draft) -> Inputs:
    labels = labels_of(run, draft)
    width = metrics_of(draft.parents["sae"], SaeMetrics)["config"]["width"]
    embeddings, activations, manifest = (draft.parents[name] for name in ("embeddings", "activations", "manifest"))
    work = ProbeWork(embeddings, activations, labels.shard_N, probe_rows(labels), width)
    sample = gathered(list(run.track(group_sums(run, work), draft.stage, len(work.groups()), "groups")))
    role_n = np.where(labels.test_N, TEST, np.where(labels.training_N, FIT, JUDGE))[sample.row_n]
    what = run.recipe.what
    targets = targets_in(run.recipe, manifest, labels, sample.row_n, role_n == FIT)
    rules = Rules(sorted(set(what.recovery.sizes)), seed=what.recovery.seed)
    if what.recovery.compat == "sail":
        rules = Rules(rules.sizes, scaled=False, strengths=STRENGTHS[-1:], seed=rules.seed)
    random_nD = None
    if random := draft.parents.get(RANDOM_EMBEDDINGS.name):
        chosen_N = np.isin(np.arange(len(labels.shard_N)), sample.row_n)
        dimensions = DimensionsWork(random, labels.shard_N, chosen_N)
        random_nD = np.concatenate(list(group_sums(run, dimensions)))
    return Inputs(Table.of(sample, role_n, rules.most, random_nD), targets, rules, what.features.level)


def _rows(run: Run, inputs: Inputs) -> Iterator[probed.Row]:
    """Rank the columns of all targets, then fit them on the first n, of the group's order too."""
    table, targets, rules, level = inputs
    size = _per_task(table)
    chunks = [targets[start : start + size] for start in range(0, len(targets), size)]
    with _computing(run, table, [len(chunk) for chunk in chunks]) as computed:
        found = list(computed("ranking columns", probed.rank, [(chunk, rules) for chunk in chunks]))
        orders = probed.group_orders(targets, [one for ranked in found for one in ranked], rules.most)
        work = [(chunk, ranked, orders, rules, level) for chunk, ranked in zip(chunks, found, strict=True)]
        for rows in computed("fitting and testing", probed.probe_rows, work):
            yield from rows


def _per_task(table: Table) -> int:
    values = table.fit["raw"].size + table.fit["sae"].size  # of a sparse array the values that it stores
    return int(np.clip(VALUES_PER_TASK // max(values, 1), 1, TARGETS_PER_TASK))


@contextlib.contextmanager
def _computing(run: Run, table: Table, sizes: Sequence[int]) -> Iterator[Computed]:
    """Yield a function of (step, function, arguments of each chunk) to its results, in order; `sizes` are the targets
    of the chunks. The table is shared by all tasks."""
    if run.recipe.how.engine == "loop":

        def here(step: str, function: Callable[..., T], work: Sequence[tuple[Any, ...]]) -> Iterator[T]:
            return _counted(run, step, sizes, (function(table, *arguments) for arguments in work))

        yield here
        return
    run.connect()
    shared = ray.put(table)
    with Tries(run.recipe.how.encode.retries).kept() as tries:

        def there(step: str, function: Callable[..., T], work: Sequence[tuple[Any, ...]]) -> Iterator[T]:
            tasks = [
                _compute.remote(tries, f"{step} {piece}", function, shared, *arguments)
                for piece, arguments in enumerate(work)
            ]
            with in_flight(tasks):
                yield from _counted(run, step, sizes, (ray.get(task) for task in tasks))

        yield there


def _counted(run: Run, step: str, sizes: Sequence[int], results: Iterable[T]) -> Iterator[T]:
    with run.bar("recovery", sum(sizes), "targets", step) as bar:
        for size, result in zip(sizes, results, strict=True):
            yield result
            bar.advance(size)


def _metrics(inputs: Inputs, rows: list[probed.Row]) -> RecoveryMetrics:
    whole = [row["target"] for row in rows if row["kind"] == "dimensions" and row["n"] is None and not row["untested"]]
    dense, sizes = probed.dense_of(rows), [len(at) for at in inputs.table.rows]
    return RecoveryMetrics(
        targets=len(inputs.targets),
        tested=len(whole),
        counted=len(dense),
        dense_above=DENSE,
        dense=recovery(list(dense.values()), list(dense.values())).dense if dense else None,
        curves=probed.curve_points(rows, inputs.level, inputs.rules.seed) if dense else [],
        untested={row["target"]: row["untested"] for row in rows if row["untested"] and row["kind"] != "features"},
        fitted=sizes[FIT],
        judged=sizes[JUDGE],
        measured=sizes[TEST],
    )


def _what(run: Run) -> dict[str, Any]:
    what = run.recipe.what
    return what.recovery.rules() | {"level": what.features.level, "uncertain": what.uncertain, "blank": what.blank}


def _parents(recipe: Recipe) -> tuple[str, ...]:
    """Return the parents of `features`, and the control if the recipe asks for it."""
    control = () if recipe.what.recovery.random_weights is None else (RANDOM_EMBEDDINGS.name,)
    return (*features_parents(recipe), *control)


RECOVERY = Stage("recovery", 1, _parents, _what, _recovery, demands=lambda recipe: (task_demand("recovery"),))
