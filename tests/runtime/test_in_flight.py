"""Whether a stage's own tasks run is told from the cluster's open requests and the references that it holds."""

import threading
import time
from collections.abc import Callable

import pytest
import ray

from medsae_ray.cluster import waiting
from medsae_ray.cluster.demands import task_demand
from medsae_ray.runtime.in_flight import in_flight, unfinished

pytestmark = pytest.mark.ray


@ray.remote(num_cpus=1)
def _nap(seconds: float) -> None:
    time.sleep(seconds)


@ray.remote(num_cpus=0)
def _nothing() -> None:
    return None


def until(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    end = time.monotonic() + seconds
    while not holds() and time.monotonic() < end:
        time.sleep(0.2)
    return holds()


def said_while(tasks: list[ray.ObjectRef], seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a stage that waits for these tasks, looked at all the time."""
    for name, value in (("LOOK_S", 0.2), ("FIRST_S", 2.0)):
        monkeypatch.setattr(waiting, name, value)
    said, thread = list[str](), threading.get_ident()
    with waiting.waiting(said.append, [task_demand("features")], asked=lambda: unfinished(thread)), in_flight(tasks):
        ray.wait(tasks, num_returns=len(tasks), timeout=seconds)
    assert unfinished(thread) == 0
    return said


def test_finished_tasks_are_not_in_flight(ray_cluster: None) -> None:
    tasks, thread = [_nothing.remote() for _ in range(3)], threading.get_ident()
    with in_flight(tasks):
        assert unfinished(thread + 1) == 0
        assert until(lambda: unfinished(thread) == 0)


def test_a_stage_waits_only_while_none_of_its_tasks_runs(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = int(ray.cluster_resources()["CPU"])
    ray.get([_nap.remote(0) for _ in range(cpus)])  # the workers are there
    own = [_nap.remote(6) for _ in range(cpus + 2)]
    assert said_while(own, 5, monkeypatch) == [], "as many as there are CPUs run, and two are queued"
    ray.get(own)
    others = [_nap.remote(12) for _ in range(cpus)]
    time.sleep(2)
    own = [_nap.remote(0) for _ in range(2)]
    found = said_while(own, 8, monkeypatch)
    assert len(found) == 1 and found[0].startswith("waiting for 1 x {CPU: 1} (stage features)")
    ray.get([*own, *others])
