"""One check before the first stage: everything that a run will ask of its cluster."""

from collections.abc import Iterable

import ray

from medsae_ray.core.artifact import Artifact
from medsae_ray.stages.capacity import Capacity, address_of, cluster_capacity, growth, machine
from medsae_ray.stages.demands import Phase
from medsae_ray.stages.needs import phases_of, share_problems
from medsae_ray.stages.placing import check_placeable, no_growth, refuse
from medsae_ray.stages.run import Run

ENGINE = "medsae-engine"
"""How the names of our engines on Ray Serve begin."""


def ready(run: Run, *goals: str, beside: bool = True) -> None:
    """Raise RecipeError, with every problem, if the stages that `goals` still need ask for what the cluster of the run
    cannot hold. It is joined for that, but no local one is started."""
    to_make = unmade(run, *goals)
    refuse([*share_problems(run.recipe, to_make)])
    if phases_of(run.recipe, run.stages, to_make, beside):
        capacity = capacity_of(run)
        phases = phases_on(run, capacity, to_make, beside)
        check_placeable(phases, capacity, run.say, growth if capacity.joined else no_growth)


def phases_on(run: Run, capacity: Capacity, to_make: list[str], beside: bool = True) -> list[Phase]:
    """As `phases_of`, but an engine that runs already has its place."""
    phases = phases_of(run.recipe, run.stages, to_make, beside)
    if not (run.has_engine or any(name.startswith(ENGINE) for name in capacity.held)):
        return phases
    rest = [phase._replace(demands=tuple(d for d in phase.demands if d.stage != "engine")) for phase in phases]
    return [phase for phase in rest if phase.demands]


def unmade(run: Run, *goals: str) -> list[str]:
    """The stages that are not there yet, each after what it is made of."""
    found: dict[str, Artifact | None] = {}
    for name in ordered(run, *goals):
        stage = run.stages[name]
        parents = {parent: found[parent] for parent in stage.parents(run.recipe)}
        there = {parent: artifact for parent, artifact in parents.items() if artifact}
        found[name] = run.draft(stage, there).committed() if len(there) == len(parents) else None
    missing = [name for name, artifact in found.items() if artifact is None]
    needed = {need for name in missing for need in run.stages[name].needs(run.recipe)}
    return [name for name in missing if name not in _only_needed(run, goals) or name in needed]


def ordered(run: Run, *goals: str) -> list[str]:
    """The stages that `goals` are made of, and they themselves, in an order in which they can be made."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in found:
            stage = run.stages[name]
            for before in (*stage.needs(run.recipe), *stage.parents(run.recipe)):
                add(before)
            found[name] = None

    for goal in goals:
        add(goal)
    return list(found)


def _only_needed(run: Run, goals: Iterable[str]) -> set[str]:
    """Stages that are made only if what needs them is."""
    needs = {need for name in ordered(run, *goals) for need in run.stages[name].needs(run.recipe)}
    parents = {parent for name in ordered(run, *goals) for parent in run.stages[name].parents(run.recipe)}
    return needs - parents - set(goals)


def capacity_of(run: Run) -> Capacity:
    """Of the cluster that the run is to join, or of the machine on which it would start one."""
    if not ray.is_initialized() and address_of(run.recipe.how) is None:
        return machine(run.recipe.how)
    run.connect()
    return cluster_capacity()
