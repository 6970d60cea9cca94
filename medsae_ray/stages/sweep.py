"""Stage `sweep`: many SAEs on the same embeddings, and the table that compares them.

Each SAE becomes the very `sae` artifact that stage `sae` makes of its settings. So a sweep goes on where it
stopped, and a run with the settings of the winner finds its SAE there.
"""

from typing import Any

import pyarrow as pa
from rich.markup import escape

from medsae_ray.cluster.demands import train_demand
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft
from medsae_ray.core.report.sweep import render_sweep
from medsae_ray.core.sae.defaults import check_fits
from medsae_ray.core.sae.ranking import DIED, ranked, result_row
from medsae_ray.errors import MedsaeError
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.closing import sweep_table
from medsae_ray.stages.pages import page_id, publish
from medsae_ray.stages.sweep_tasks import Task, train_all
from medsae_ray.stages.train import SAE, job_of, settings_of, training_rows

PAGE = "sweep.html"


def publish_sweep(run: Run, table: pa.Table, left_out: int) -> None:
    """Print the table, and write the page that shows it."""
    rows = table.to_pylist()
    page = render_sweep(run.recipe.name, rows, left_out).encode()
    unwritten = publish(run.root, page_id(run, *SWEEP.parents(run.recipe)), {PAGE: page})
    run.console.print(sweep_table(rows), end="\n\n")
    if unwritten:
        run.console.print(f"[yellow]![/] no page: {escape(unwritten)}", highlight=False, soft_wrap=True)


def _make(run: Run, draft: Draft) -> Made:
    found = run.recipe.what.members()
    tasks = _tasks(run, draft)
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
        publish_sweep(run, table, found.left_out)
        raise MedsaeError(
            f"the workers of {len(died)} of {len(results)} SAEs died, often for want of memory: {'; '.join(died)}. "
            "The others are kept: run the sweep again, or without these"
        )
    receipt = draft.writer(schema.sweep()).write(0, table, len(results))
    metrics = {"members": len(results), "left_out": found.left_out, "pareto": sum(table["pareto"].to_pylist())}
    return Made([receipt], metrics, len(tasks) - len(todo))


def _tasks(run: Run, draft: Draft) -> list[Task]:
    """Every SAE, with the artifact that stage `sae` would make of it. RecipeError for a batch that cannot be filled."""
    embeddings, manifest = draft.parents["embeddings"], draft.parents["manifest"]
    rows, tasks = training_rows(embeddings, manifest), []
    for member in run.recipe.what.members().members:
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
    members = run.recipe.what.members().members
    return {"sae": SAE.version, "members": [{"changes": m.changes, "settings": m.sae.settings()} for m in members]}


SWEEP = Stage(
    "sweep",
    1,
    lambda recipe: ("embeddings", "manifest"),
    _what,
    _make,
    demands=lambda recipe: (train_demand("sweep", recipe.how.train, workers=1),),
)
