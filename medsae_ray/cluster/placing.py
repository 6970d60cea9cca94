"""The phases of a run compared with the nodes of a cluster and its possible growth: refusals, and their texts."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import NamedTuple

from medsae_ray.cluster.capacity import Capacity, growth
from medsae_ray.cluster.demands import Demand, Phase
from medsae_ray.cluster.packing import NO_GROWTH, Growth, Unit, place, spelt
from medsae_ray.errors import RecipeError

Say = Callable[[str], None]
Grows = Callable[[], Growth | None]


class PlacedPhase(NamedTuple):
    """A phase of a run, and the judgement of its placing."""

    phase: Phase
    problem: str = ""
    """The reason why the nodes can never hold it."""
    waits: str = ""
    """The demands that it has to wait for, as text."""


def no_growth() -> Growth:
    """Return the growth of a cluster to which no node is added."""
    return NO_GROWTH


def check_placeable(phases: Sequence[Phase], capacity: Capacity, say: Say, grows: Grows = growth) -> None:
    """Raise RecipeError for phases that can never be placed; `say` which ones have to wait."""
    found = judged(phases, capacity, grows)
    refuse([one.problem for one in found if one.problem])
    for text in dict.fromkeys(one.waits for one in found if one.waits):
        say(text)


def refuse(problems: list[str]) -> None:
    """Raise one RecipeError for all problems, if there are any."""
    distinct = list(dict.fromkeys(problems))
    if distinct:
        raise RecipeError(distinct[0] if len(distinct) == 1 else "\n  ".join([f"{len(distinct)} problems:", *distinct]))


def judged(phases: Iterable[Phase], capacity: Capacity, grows: Grows = growth) -> list[PlacedPhase]:
    """Judge each phase; the autoscaler is asked once, and only if the existing nodes do not suffice."""
    ask = cache(grows)
    return [_judge(phase, capacity, ask) for phase in phases]


def _judge(phase: Phase, capacity: Capacity, ask: Grows) -> PlacedPhase:
    if place(phase.units, capacity.nodes):
        return PlacedPhase(phase)
    more = ask()
    waits = f"waiting for {' + '.join(map(str, _unplaced(phase, capacity)))}"
    if more is None:
        why = "no node has that now, and the node types of the cluster's autoscaler cannot be learnt from here"
        return PlacedPhase(phase, waits=f"{waits}: {why}")
    placed = place(phase.units, capacity.nodes, more)
    if placed is None:
        return PlacedPhase(phase, _problem(phase, capacity, more))
    kinds = ", ".join(f"`{kind}`" for kind in sorted(set(placed.new)))
    return PlacedPhase(phase, waits=f"{waits}: the cluster may start {kinds} nodes" if kinds else "")


def _unplaced(phase: Phase, capacity: Capacity) -> Sequence[Demand]:
    """Return the demands that do not fit by themselves, or all of them."""
    return [d for d in phase.demands if place(d.units, capacity.nodes) is None] or phase.demands


def _problem(phase: Phase, capacity: Capacity, more: Growth) -> str:
    """Describe the first demand that is too large by itself, or all of them together."""
    for demand in phase.demands:
        if place([demand.unit], capacity.nodes, more) is None:
            return _too_large(demand, capacity, more)
    for demand in phase.demands:
        if place(demand.units, capacity.nodes, more) is None:
            return _too_many(demand, capacity, more)
    asked = " and ".join(map(str, phase.demands))
    return f"{phase.name} takes {asked} at the same time, which do not fit on {_have(capacity, more)}. {phase.advice}"


def _too_large(demand: Demand, capacity: Capacity, more: Growth) -> str:
    short = _short(demand.unit, capacity, more)
    key = demand.keys.get(short)
    if key is None:
        return (
            f"stage {demand.stage} needs {demand.unit} on one node, and no node has that: {_have(capacity, more)}. "
            "Raise how.cpus, or use a cluster of larger nodes"
        )
    value = demand.unit.total[short]
    together = " on one node" if len(demand.unit.bundles) > 1 else ""
    other = f", or set {key}: 0 to compute on CPUs" if short == "GPU" else ""
    return (
        f"{key} is {value:g}: {demand.unit}{together} fits on no node of {_have(capacity, more)}. Lower it{other}, or "
        "use a cluster with such a node"
    )


def _too_many(demand: Demand, capacity: Capacity, more: Growth) -> str:
    key = demand.keys.get("count")
    asked = f"{key} is {demand.times}" if key else demand.key
    return (
        f"{asked}: {demand} at once have no room on {_have(capacity, more)}. "
        f"{'Lower it, or use' if key else 'Use'} a larger cluster"
    )


def _short(unit: Unit, capacity: Capacity, more: Growth) -> str:
    """Return the resource that no node has enough of; GPUs if only the mixture is on none."""
    have = [node.amounts for node in capacity.nodes] + [kind.amounts for kind in more.kinds]
    short = [kind for kind, wanted in unit.total.items() if all(of.get(kind, 0) < wanted for of in have)]
    return next(iter(sorted(short, reverse=True)), max(unit.total))


def _have(capacity: Capacity, more: Growth) -> str:
    """Describe the existing nodes, the resources held on them, and the nodes that may come."""
    count = len(capacity.nodes)
    said = f"{capacity.place}, which has {capacity.largest}"
    if count != 1:
        said = f"{capacity.place}, whose largest of {count} nodes has {capacity.largest}"
    if capacity.held:
        said += f" besides those that Ray Serve holds ({', '.join(capacity.held)})"
    if more.kinds:
        said += "; it may start " + ", ".join(
            f"{kind.more} x `{kind.name}` {spelt(kind.amounts)}" for kind in more.kinds
        )
    return said
