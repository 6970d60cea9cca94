"""Stage `sweep`: many SAEs on the same embeddings, and the table that compares them.

Each SAE becomes the very `sae` artifact that stage `sae` makes of its settings. So a sweep goes on where it
stopped, and a run with the settings of the winner finds its SAE there.
"""

from typing import Any

import pyarrow as pa

from medsae_ray.cluster.demands import train_demand
from medsae_ray.config.sweep import Members, Sweep, members_of
from medsae_ray.config.what import What
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.artifacts.metrics import SweepMetrics
from medsae_ray.core.sae.defaults import check_fits
from medsae_ray.core.sae.grid import default_grid
from medsae_ray.core.sae.ranking import DIED, ranked, result_row
from medsae_ray.errors import MedsaeError
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.sae import SAE, job_of, parents_of, settings_of, training_rows
from medsae_ray.stages.sweep_tasks import Task, train_all


class WorkersDied(MedsaeError):
    """Workers of some SAEs died; what is known of the others is there to be shown."""

    def __init__(self, message: str, table: pa.Table, left_out: int) -> None:
        super().__init__(message)
        self.table, self.left_out = table, left_out


def members_for(what: What, embeddings: Artifact, manifest: Artifact) -> Members:
    """Return the SAEs of a sweep: those that the recipe names, or a grid that follows from the training rows."""
    if what.sweep is None or not what.sweep.by_data:
        return what.members()
    each = default_grid(settings_of(what.sae, embeddings, manifest))
    return members_of(Sweep(grid={}, each=each, invalid="leave_out"), what.sae)


def _make(run: Run, draft: Draft) -> Made:
    found = members_for(run.recipe.what, draft.parents["embeddings"], draft.parents["manifest"])
    tasks = _tasks(run, draft, found)
    # What is chosen for one member may be what another one says.
    distinct = {task.draft.name: task for task in tasks}
    todo = [task for task in distinct.values() if not task.draft.committed()]
    failures = {
        task.draft.name: failure
        for task, failure in run.track(train_all(run, todo), "sweep", len(todo), "SAEs")
        if failure is not None
    }
    results = []
    for place, (member, task) in enumerate(zip(found.members, tasks, strict=True)):
        outcome = failures.get(task.draft.name) or _committed(task.draft).record
        results.append(result_row(place, member.changes, outcome))
    table = ranked(results)
    died = [row["settings"] for row in results if row["reason"] == DIED]
    if died:
        # Another attempt may have more luck or memory, so nothing is committed that would stand in its way.
        raise WorkersDied(
            f"the workers of {len(died)} of {len(results)} SAEs died, often for want of memory: {'; '.join(died)}. "
            "The others are kept: run the sweep again, or without these",
            table,
            found.left_out,
        )
    receipt = draft.writer(schema.sweep()).write(0, table, len(results))
    pareto = sum(table["pareto"].to_pylist())
    metrics = SweepMetrics(members=len(results), left_out=found.left_out, pareto=pareto)
    return Made([receipt], metrics, len(tasks) - len(todo))


def _tasks(run: Run, draft: Draft, members: Members) -> list[Task]:
    """Every SAE, with the artifact that stage `sae` would make of it. RecipeError for a batch that cannot be filled."""
    embeddings, manifest = draft.parents["embeddings"], draft.parents["manifest"]
    rows, tasks = training_rows(embeddings, manifest), []
    for member in members.members:
        settings = settings_of(member.sae, embeddings, manifest)
        check_fits(rows, settings)
        of = Draft(run.root, SAE.name, SAE.version, settings, draft.parents)
        tasks.append(Task(job_of(of, run.recipe.how.train), of))
    return tasks


def _committed(draft: Draft) -> Artifact:
    artifact = draft.committed()
    assert artifact is not None, "what did not fail is there"
    return artifact


def _what(run: Run) -> dict[str, Any]:
    members = members_for(run.recipe.what, *parents_of(run)).members
    return {"sae": SAE.version, "members": [{"changes": m.changes, "settings": m.sae.settings()} for m in members]}


SWEEP = Stage(
    "sweep",
    1,
    lambda recipe: ("embeddings", "manifest"),
    _what,
    _make,
    demands=lambda recipe: (train_demand("sweep", recipe.how.train, workers=1),),
    lacks=lambda recipe: None if recipe.what.sweep else "what.sweep, the SAEs to train ({} takes a default grid)",
)
