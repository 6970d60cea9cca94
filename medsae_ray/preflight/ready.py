"""The check before the first stage of all demands on the cluster."""

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import ray

from medsae_ray.cluster.capacity import Capacity, cluster_capacity, growth, machine
from medsae_ray.cluster.demands import Phase
from medsae_ray.cluster.joining import cluster_address
from medsae_ray.cluster.placing import judged, no_growth, refuse
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.patience import at_most
from medsae_ray.core.artifacts.store import Store
from medsae_ray.engine.leases import ENGINE
from medsae_ray.errors import ArtifactError, MedsaeError, one_line
from medsae_ray.preflight.equipment import lacking, lacking_here, things_of
from medsae_ray.preflight.needs import phases_of, share_problems
from medsae_ray.runtime.run import Run

STORE_S = 3.0
"""The seconds within which a store has to answer before a run begins; later retries last much longer."""


class KnownStage(NamedTuple):
    """The state of a stage before a run."""

    artifact: Artifact | None = None
    """The artifact; None if it is still to be made."""
    name: str | None = None
    """The name of the artifact, if it is known."""
    after: tuple[str, ...] = ()
    """The stages that have to be made before the name is known."""
    problem: str = ""
    """The reason why the name cannot be known."""


def ready(run: Run, *goals: str, beside: bool = True) -> None:
    """Raise RecipeError, with every problem, if the stages that `goals` still need demand what the cluster of the run
    cannot hold, or lacks. It is joined for that, but no local one is started."""
    with at_most(STORE_S):
        problems, waits = _looked_at(run, goals, beside)
    refuse(problems)
    for text in waits:
        run.say(text)


def _looked_at(run: Run, goals: Sequence[str], beside: bool) -> tuple[list[str], list[str]]:
    try:
        to_make = unmade(run, survey(run, *goals), *goals)
        if to_make and not run.root.is_local and (problem := _unwritable(run.root)):
            return [problem], []
    except OSError as error:
        return [_unreachable(run.root, str(error))], []
    if shares := [*share_problems(run.recipe, to_make)]:
        return shares, []
    if not phases_of(run.recipe, run.stages, to_make, beside):
        return lacking_here([*things_of(run, to_make)], alone=True), []
    return judgement(run, capacity_of(run), to_make, beside)


def _unwritable(root: Store) -> str:
    """Write to an object store, which only then shows a missing bucket or missing rights; return the problem."""
    name = f".medsae-probe-{uuid.uuid4().hex}"
    try:
        root.write(name, b"")
        root.delete(name)
    except ArtifactError as error:
        return _unreachable(root, str(error).removeprefix(f"{root.uri}/{name} cannot be written: "))
    return ""


def _unreachable(root: Store, said: str) -> str:
    return (
        f"root {root.uri} cannot be read or written: {one_line(said)[:300].rstrip('. ')}. See that its bucket exists, "
        "and that credentials and endpoint are those of the store (AWS_ENDPOINT_URL, ...)"
    )


def judgement(run: Run, capacity: Capacity, to_make: list[str], beside: bool = True) -> tuple[list[str], list[str]]:
    """Return the problems of the stages `to_make`, and the things that they have to wait for."""
    found = judged(phases_on(run, capacity, to_make, beside), capacity, growth if capacity.joined else no_growth)
    problems, waits = [one.problem for one in found if one.problem], [one.waits for one in found if one.waits]
    things, alone = [*things_of(run, to_make)], not capacity.joined or len(capacity.nodes) == 1
    problems += lacking_here(things, alone)
    if not alone:
        lacks, silent = lacking(things)
        problems += lacks
        waits += [f"node {node} did not answer the check of its equipment; the run goes on" for node in silent]
    return problems, list(dict.fromkeys(waits))


def phases_on(run: Run, capacity: Capacity, to_make: list[str], beside: bool = True) -> list[Phase]:
    """Return `phases_of` without an engine that runs already."""
    phases = phases_of(run.recipe, run.stages, to_make, beside)
    if not (run.has_engine or ENGINE in capacity.held):
        return phases
    rest = [phase._replace(demands=tuple(d for d in phase.demands if d.stage != "engine")) for phase in phases]
    return [phase for phase in rest if phase.demands]


def survey(run: Run, *goals: str, forgiving: bool = False, skip: Collection[str] = ()) -> dict[str, KnownStage]:
    """Find every stage that `goals` need, each after its parents. A `forgiving` survey keeps errors as text; stages in
    `skip` are not named."""
    found: dict[str, KnownStage] = {}
    for name in ordered(run, *goals):
        stage = run.stages[name]
        before = {other: found[other].artifact for other in stage.before(run.recipe)}
        there = {other: artifact for other, artifact in before.items() if artifact}
        if len(there) < len(before) or name in skip:
            found[name] = KnownStage(after=tuple(other for other, artifact in before.items() if not artifact))
            continue
        try:
            draft = run.draft(stage, there)
            found[name] = KnownStage(draft.committed(), draft.name)
        except (MedsaeError, OSError) as error:
            if not forgiving:
                raise
            found[name] = KnownStage(problem=str(error))
    return found


def unmade(run: Run, found: Mapping[str, KnownStage], *goals: str) -> list[str]:
    """Return the stages that are still to be made, without those that only serve existing ones."""
    missing = [name for name, one in found.items() if one.artifact is None]
    needed = {need for name in missing for need in run.stages[name].needs(run.recipe)}
    return [name for name in missing if name not in _only_needed(run, goals) or name in needed]


def ordered(run: Run, *goals: str) -> list[str]:
    """Return the stages behind `goals`, and these themselves, in an order in which they can be made."""
    found: dict[str, None] = {}

    def add(name: str) -> None:
        if name not in found:
            stage = run.stages[name]
            for before in (*stage.needs(run.recipe), *stage.before(run.recipe)):
                add(before)
            found[name] = None

    for goal in goals:
        add(goal)
    return list(found)


def _only_needed(run: Run, goals: Iterable[str]) -> set[str]:
    """Return stages that are made only if a stage that needs them is."""
    needs = {need for name in ordered(run, *goals) for need in run.stages[name].needs(run.recipe)}
    parents = {parent for name in ordered(run, *goals) for parent in run.stages[name].before(run.recipe)}
    return needs - parents - set(goals)


def capacity_of(run: Run) -> Capacity:
    """Return the capacity of the cluster that the run is to join, or of the machine on which it would start one."""
    if not ray.is_initialized() and cluster_address(run.recipe.how) is None:
        return machine(run.recipe.how)
    run.connect()
    return cluster_capacity()
