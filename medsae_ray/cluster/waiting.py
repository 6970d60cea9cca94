"""Log lines about a run that waits: a request without room waits silently in Ray."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import ray

from medsae_ray.cluster.capacity import KINDS
from medsae_ray.cluster.demands import Demand
from medsae_ray.cluster.packing import Bundle, spelt
from medsae_ray.cluster.ray_private import ClusterStatus, cluster_status

LOOK_S = 5.0
FIRST_S, THEN_S = 15.0, 60.0
"""The seconds of waiting until the first line, and between two of them."""


@contextlib.contextmanager
def waiting(
    say: Callable[[str], None],
    demands: Sequence[Demand],
    done: Callable[[], int] = lambda: 0,
    asked: Callable[[], int] = lambda: 0,
) -> Iterator[None]:
    """Log through `say`, for the length of the block, the `demands` for which Ray has no room.

    While `done` still changes, no demand counts as waiting, as tasks are queued in advance; nor while some of the
    `asked` tasks run, those of the run that are not finished.
    """
    over = threading.Event()
    if demands:
        arguments = (say, demands, done, asked, over)
        threading.Thread(target=_watch, args=arguments, name="waiting", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _watch(
    say: Callable[[str], None],
    demands: Sequence[Demand],
    done: Callable[[], int],
    asked: Callable[[], int],
    over: threading.Event,
) -> None:
    since, said, before = time.monotonic(), -THEN_S, done()
    while not over.wait(LOOK_S):
        line, now, so_far = _look(demands, asked), time.monotonic(), done()
        if line is None or so_far != before:
            since, before = now, so_far
        elif now - since >= FIRST_S and now - said >= THEN_S and not over.is_set():
            said = now
            say(line)


def _look(demands: Sequence[Demand], asked: Callable[[], int]) -> str | None:
    if not ray.is_initialized():
        return None
    with contextlib.suppress(Exception):  # that a cluster does not answer is for others to tell
        return line_of(cluster_status(), demands, asked())
    return None


def line_of(status: ClusterStatus, demands: Sequence[Demand], asked: int = 0) -> str | None:
    """Describe those of `demands` that wait for room by the cluster's status; None if none does."""
    unmet = [demand._replace(times=count) for demand in demands if (count := pending(status, demand, asked))]
    return f"waiting for {' + '.join(map(str, unmet))}: {_free(status)}" if unmet else None


def pending(status: ClusterStatus, demand: Demand, asked: int = 0) -> int:
    """Count a demand's units that have no place yet; 0 if fewer have none than are `asked` for, as the others run."""
    alone = Counter[Bundle]()
    for request in status.resource_demands.ray_task_actor_demand:
        for shape in request.bundles_by_count:
            alone[_shape(shape.bundle)] += shape.count
    own = Counter(demand.unit.bundles)
    units = alone[demand.unit.bundles[0]] if len(demand.unit.bundles) == 1 else 0
    for group in status.resource_demands.placement_group_demand:
        bundles = Counter[Bundle]()
        for shape in group.bundles_by_count:
            bundles[_shape(shape.bundle)] += shape.count
        if set(bundles) == set(own):
            units += max(1, min(bundles[bundle] // own[bundle] for bundle in own))
    return min(units, demand.times) if units >= asked else 0


def _shape(amounts: dict[str, float]) -> Bundle:
    return Bundle.of({kind: amounts.get(kind, 0.0) for kind in KINDS})


def _free(status: ClusterStatus) -> str:
    """Describe the most free resources of a node, and the nodes that are starting."""
    nodes = [node.available_resources() for node in (*status.active_nodes, *status.idle_nodes)]
    most = {kind: max((free.get(kind, 0.0) for free in nodes), default=0.0) for kind in KINDS}
    coming = Counter(node.ray_node_type_name for node in status.pending_nodes)
    coming.update({launch.ray_node_type_name: launch.count for launch in status.pending_launches})
    said = f"no node has that free; the most on one is {spelt(most)}"
    return said + "".join(f"; {count} x `{kind}` on the way" for kind, count in sorted(coming.items()))
