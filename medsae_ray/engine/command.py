"""`medsae engine status` and `medsae engine stop`: our applications on a cluster, their holders, and their end."""

import contextlib
import os
import time
from collections.abc import Iterator
from typing import Any

from medsae_ray.cluster.joining import cluster
from medsae_ray.config import How
from medsae_ray.engine.client import APPLICATION
from medsae_ray.engine.holding import PATIENCE_S, POLL_S, tell
from medsae_ray.engine.leases import ABSENT
from medsae_ray.engine.serve_status import details
from medsae_ray.errors import EngineError, MedsaeError


def engine_status(address: str | None) -> list[str]:
    """Return lines on the cluster's engine: model, state, replicas and their nodes, leases, and idle time."""
    with _joined(address):
        return status_lines(tell("report", APPLICATION), _replicas(), time.time())


def stop_engine(address: str | None, force: bool) -> str:
    """End the cluster's engine and return a line on it. EngineError if others hold it, unless `force`, and always
    for an engine of `serve deploy`."""
    with _joined(address):
        if tell("report", APPLICATION)["status"] == ABSENT:
            return "no engine runs on this cluster"
        if why := tell("stop", APPLICATION, force):
            raise EngineError(why)
        until = time.monotonic() + PATIENCE_S
        while tell("report", APPLICATION)["status"] != ABSENT:
            if time.monotonic() > until:
                raise EngineError(f"the engine has not ended within {PATIENCE_S:.0f} s; see the logs of Ray Serve")
            time.sleep(POLL_S)
        return "the engine has ended"


@contextlib.contextmanager
def _joined(address: str | None) -> Iterator[None]:
    """Join the running cluster; never start one."""
    where = address or os.environ.get("RAY_ADDRESS") or "auto"
    with contextlib.ExitStack() as joined:
        try:
            joined.enter_context(cluster(How(address=where)))
        except ConnectionError:
            raise MedsaeError(f"no Ray cluster at {where}: name one by --address or RAY_ADDRESS") from None
        yield


def status_lines(report: dict[str, Any], replicas: list[str], now: float) -> list[str]:
    """Format the keeper's report; `now` is the time of day, in seconds since 1970."""
    if report["status"] == ABSENT:
        return ["no engine runs on this cluster"]
    same = report["about"].get("same", {})
    named = f"{same['model']} in {same['dtype']}" if same else "an engine that no run started, and none will end"
    lines = [f"{named}: {report['status']}", *replicas]
    for who, left in report["leases"]:
        lines.append(f"in use by {who}, until {_clock(now + left)} if it is not renewed")
    if report["idle"]:
        since, left = report["idle"]
        lines.append(f"idle since {_clock(now - since)}, ends at {_clock(now + left)}")
    return lines


def _clock(at: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(at))


def _replicas() -> list[str]:
    known = details()
    engine = known and known.applications.get(APPLICATION)
    replicas = [one for deployment in engine.deployments.values() for one in deployment.replicas] if engine else []
    return [f"replica {one.replica_id}: {one.state.value}, process {one.pid} on {one.node_ip}" for one in replicas]
