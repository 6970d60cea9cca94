"""The capacity of a cluster and its possible growth: the only module that asks Ray for either."""

import contextlib
import os
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ray
import yaml
from ray.util import placement_group_table
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medsae_ray.cluster import ray_private
from medsae_ray.cluster.packing import NO_GROWTH, Growth, Kind, Node, spelt
from medsae_ray.cluster.ray_private import HEAD, REPLICA
from medsae_ray.config import How

KINDS = ("CPU", "GPU")
ASK_S = 20
"""The seconds within which the head node has to report the cluster's possible growth."""


class Capacity(NamedTuple):
    """The nodes of a cluster with the resources that they offer a run."""

    nodes: tuple[Node, ...]
    held: tuple[str, ...] = ()
    """The applications of Serve's replicas, whose resources are already subtracted from the nodes."""
    place: str = "the Ray cluster"
    joined: bool = True
    """False for a machine on which no cluster runs yet."""

    @property
    def largest(self) -> str:
        """The nodes that no other one exceeds, as text."""
        shapes = {tuple((kind, node.amounts.get(kind, 0)) for kind in KINDS) for node in self.nodes}
        best = [
            a
            for a in shapes
            if not any(a != b and all(x[1] <= y[1] for x, y in zip(a, b, strict=True)) for b in shapes)
        ]
        return " and ".join(spelt(dict(shape)) for shape in sorted(best, reverse=True)) or "nothing"


def machine(how: How) -> Capacity:
    """Return this machine as the node of the local cluster that a run would start on it."""
    amounts = {"CPU": float(how.cpus or ray_private.cpus_here()), "GPU": float(ray_private.gpus_here())}
    return Capacity((Node("this machine", amounts),), place="this machine", joined=False)


def cluster_capacity() -> Capacity:
    """Return the capacity of the cluster that this process is connected to."""
    taken: dict[str, Counter[str]] = {}
    held = []
    for group in placement_group_table().values():
        if group["state"] == "CREATED" and group["name"].startswith(REPLICA):
            held.append(group["name"].removeprefix(REPLICA).partition("#")[0])
            for number, bundle in group["bundles"].items():
                taken.setdefault(group["bundles_to_node_id"][number], Counter()).update(bundle)
    alive = [node for node in ray.nodes() if node["Alive"]]
    nodes = tuple(Node(_name(node), _left(node["Resources"], taken.get(node["NodeID"], {}))) for node in alive)
    return Capacity(nodes, tuple(sorted(held)))


def _left(amounts: Mapping[str, float], taken: Mapping[str, float]) -> dict[str, float]:
    return {kind: max(0.0, amounts.get(kind, 0.0) - taken.get(kind, 0.0)) for kind in KINDS}


def _name(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}, {node['NodeID'][:8]})"


def growth() -> Growth | None:
    """Return the nodes that the cluster may still start: none without an autoscaler, None if the node types of its
    autoscaler are unknown."""
    declared = _declared()
    said = declared or _asked()
    if said is None or said == {}:
        return None if said is None and ray_private.has_autoscaler() else NO_GROWTH
    return left_of(said, _alive())


def left_of(config: Mapping[str, Any], alive: Mapping[str, int]) -> Growth | None:
    """Return the nodes that an autoscaler of this configuration may add to those of each type alive; None if it lacks
    the resources of some type."""
    kinds = []
    for name, kind in config["available_node_types"].items():
        more = kind.get("max_workers", config.get("max_workers", 0)) - alive.get(name, 0)
        if name == config.get("head_node_type") and not kind.get("max_workers"):
            continue
        amounts = {resource: float(kind.get("resources", {}).get(resource, 0)) for resource in KINDS}
        if not kind.get("resources"):
            return None
        if more > 0:
            kinds.append(Kind(name, amounts, more))
    # Ray may report the head, and nodes that joined by hand, under names of its own.
    workers = sum(alive.get(name, 0) for name in config["available_node_types"] if name != config.get("head_node_type"))
    total = config.get("max_workers", sum(kind.more for kind in kinds) + workers)
    return Growth(tuple(kinds), max(0, total - workers))


def _declared() -> dict[str, Any] | None:
    """Return the cluster's own description, which managed clusters keep in Ray's state."""
    with contextlib.suppress(Exception):
        types = {
            group.name: {
                "resources": dict(group.resources),
                "max_workers": group.max_count if group.max_count >= 0 else 2**20,
            }
            for group in ray_private.node_groups()
        }
        return {"available_node_types": types} if types else None
    return None


def _asked() -> dict[str, Any] | None:
    """Return the configuration that the head's autoscaler was started with; {} without one, None if it is unknown."""
    head = next((node["NodeID"] for node in ray.nodes() if node["Alive"] and HEAD in node["Resources"]), None)
    if head is None:
        return None
    strategy = NodeAffinitySchedulingStrategy(head, soft=False)
    task = ray.remote(num_cpus=0, max_retries=0)(autoscaler_config).options(scheduling_strategy=strategy)
    with contextlib.suppress(Exception):
        return ray.get(task.remote(ray.get_runtime_context().gcs_address), timeout=ASK_S)  # type: ignore[no-any-return]
    return None


def autoscaler_config(address: str, processes: Path = Path("/proc")) -> dict[str, Any] | None:
    """Read, on the head node, the node types and limits from the file that the autoscaler of the cluster at `address`
    was started with, or from Kubernetes; {} for an autoscaler without such a file, which starts nothing."""
    for line in processes.glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            said = line.read_bytes().decode(errors="replace").split("\0")
            if any(re.search(r"autoscaler/.*monitor\.py$", word) for word in said) and _same(said, address):
                file = next((w.partition("=")[2] for w in said if w.startswith("--autoscaling-config=")), None)
                return _node_types(yaml.safe_load(Path(file).expanduser().read_text())) if file else {}
    return _of_kubernetes()


def _same(command: list[str], address: str) -> bool:
    """Return True if the monitor belongs to the cluster at `address`: several may run on one machine."""
    given = next((word.partition("=")[2] for word in command if word.startswith("--gcs-address=")), address)
    return given.rpartition(":")[2] == address.rpartition(":")[2]


def _of_kubernetes() -> dict[str, Any] | None:
    """Read the configuration as KubeRay's own autoscaler does, with the rights of the head's pod."""
    cluster = os.environ.get("RAY_CLUSTER_NAME")
    if not cluster or "KUBERNETES_SERVICE_HOST" not in os.environ:
        return None
    with contextlib.suppress(Exception):
        namespace = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace").read_text().strip()
        return _node_types(ray_private.kuberay_configuration(cluster, namespace))
    return None


def _node_types(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a configuration that decide the size of its cluster."""
    types = {
        name: {key: kind[key] for key in ("resources", "max_workers") if key in kind}
        for name, kind in config["available_node_types"].items()
    }
    return {"available_node_types": types} | {k: config[k] for k in ("max_workers", "head_node_type") if k in config}


def _alive() -> dict[str, int]:
    """Count the nodes of each type that are alive or starting. Unknown nodes count as none, so that a run waits instead
    of being refused."""
    found = Counter[str]()
    with contextlib.suppress(Exception):
        status = ray_private.cluster_status()
        found.update(
            node.ray_node_type_name for node in (*status.active_nodes, *status.idle_nodes, *status.pending_nodes)
        )
        found.update({launch.ray_node_type_name: launch.count for launch in status.pending_launches})
    report = ray_private.autoscaler_report()
    older = Counter[str](report.get("active_nodes") or {}) + Counter(report.get("pending_launches") or {})
    return {name: max(found[name], older[name]) for name in {*found, *older} if name}
