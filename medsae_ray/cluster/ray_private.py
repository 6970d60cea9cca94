"""Names that Ray keeps to itself and this package needs, in one place: an upgrade of Ray may change any of them.

Each has a test in `tests/cluster/test_ray_private.py`. Those of Ray Serve LLM, which only a replica can import, are in
`medsae_ray/engine/ray_llm.py`. Ray Serve takes seconds to import, so it is imported where it is needed.
"""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray._private import ray_constants, worker
from ray._private.accelerators.nvidia_gpu import NvidiaGPUAcceleratorManager as Nvidia
from ray._private.state import state
from ray._private.utils import get_num_cpus
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.autoscaler.v2 import schema, sdk
from ray.core.generated import autoscaler_pb2
from ray.exceptions import GetTimeoutError, RayActorError
from ray.experimental import internal_kv

HEAD = "node:__internal_head__"
"""Ray's own resource of the head node, which lives as long as the cluster."""
REPLICA = "SERVE_REPLICA::"
"""How Ray Serve names the placement group of a replica, before application, # and deployment."""
AGENT = f"^({'|'.join(ray_constants.AGENT_PROCESS_LIST)})"
"""The names of a raylet's agents, as a pattern. Actors may be called agents too."""
ClusterStatus = schema.ClusterStatus
Print = Callable[[dict[str, Any], bool], None]
"""Prints what another process of the cluster said."""


def kv_put(key: str | bytes, value: bytes) -> None:
    """Put a value into the cluster's key-value store, which outlives every actor and needs none."""
    internal_kv._internal_kv_put(key, value, overwrite=True)


def kv_get(key: str | bytes) -> bytes | None:
    """Return the value of a key in the cluster's key-value store; None if it has none."""
    return internal_kv._internal_kv_get(key)


def kv_keys(prefix: str) -> list[str]:
    """Return the keys of the cluster's key-value store that begin with `prefix`."""
    return [key.decode() for key in internal_kv._internal_kv_list(prefix)]


def kv_delete(key: str | bytes, as_prefix: bool = False) -> None:
    """Remove a key from the cluster's key-value store; `as_prefix` removes all that begin with it."""
    internal_kv._internal_kv_del(key, del_by_prefix=as_prefix)


def ends_with_us() -> bool:
    """Whether this process started the cluster, which then ends with it."""
    node = worker._global_node
    return node is not None and node.is_head()


def raylet_here() -> int:
    """Return the process id of the raylet of the cluster that this process started."""
    return int(worker._global_node.all_processes["raylet"][0].process.pid)  # type: ignore[attr-defined]


def print_through(wrap: Callable[[Print], Print]) -> None:
    """Wrap the function by which this process prints what raylets and workers say."""
    worker.print_to_stdstream = wrap(worker.print_to_stdstream)  # type: ignore[assignment]


def cpus_here() -> float:
    """Return as many CPUs as a cluster would have that starts on this machine."""
    return get_num_cpus()


def gpus_here() -> int:
    """Return as many GPUs as a cluster would have that starts on this machine."""
    shown = Nvidia.get_current_process_visible_accelerator_ids()
    there = Nvidia.get_current_node_num_accelerators()
    return there if shown is None else min(there, len(shown))


def this_node() -> str:
    """Return Ray's own resource of the node that this process runs on, by which an actor is put there."""
    return next(name for name in _resources_here() if name.startswith("node:") and name != HEAD)


def gpus_of_this_node() -> float:
    """Return the GPUs of the node that this process runs on."""
    return float(_resources_here().get("GPU", 0))


def _resources_here() -> dict[str, float]:
    mine = ray.get_runtime_context().get_node_id()
    return next(node["Resources"] for node in ray.nodes() if node["NodeID"] == mine)


def cluster_status() -> ClusterStatus:
    """Return the nodes of the cluster, those on their way, and the requests that wait for room."""
    return sdk.get_cluster_status(ray.get_runtime_context().gcs_address)


def node_groups() -> Sequence[Any]:
    """Return the types of nodes by the description that managed clusters keep in Ray's state."""
    return getattr(state.get_cluster_config(), "node_group_configs", None) or ()


def kuberay_configuration(cluster: str, namespace: str) -> dict[str, Any]:
    """Return the autoscaler's configuration as KubeRay makes it of the cluster's description."""
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    configuration: dict[str, Any] = AutoscalingConfigProducer(cluster, namespace)()
    return configuration


def autoscaler_report() -> dict[str, Any]:
    """Return what Ray's first autoscaler says of itself; {} without one."""
    with contextlib.suppress(Exception):
        return json.loads(kv_get("__autoscaling_status") or b"{}").get("autoscaler_report") or {}
    return {}


def has_autoscaler() -> bool:
    """Whether an autoscaler of either kind reports to this cluster."""
    with contextlib.suppress(Exception):
        reply = autoscaler_pb2.GetClusterStatusReply()  # type: ignore[attr-defined]
        reply.ParseFromString(GcsClient(ray.get_runtime_context().gcs_address).get_cluster_status(timeout_s=10))
        return bool(autoscaler_report()) or reply.autoscaling_state.autoscaler_state_version > 0
    return False


def deploy(application: Any, name: str, route_prefix: str | None) -> None:
    """Hand an application to Ray Serve without waiting until it runs, which `serve.run` would."""
    from ray import serve

    serve._run(application, name=name, route_prefix=route_prefix, _blocking=False)


def serve_client() -> Any:
    """Return the client of the Ray Serve that runs; None if none does.

    Ray remembers a controller for as long as the process lives, one that is gone too, until `forget_serve`.
    """
    from ray.serve.context import _get_global_client

    return _get_global_client(raise_if_no_controller_running=False)


def serve_details() -> Any:
    """Return what Serve says of itself, by key; None if it does not run. ActorDiedError if a remembered one is gone."""
    client = serve_client()
    return client and client.get_serve_details()


def serve_controller() -> Any:
    """Return the handle of Serve's controller; None if Serve does not run."""
    client = serve_client()
    return client and client._controller


def serve_address() -> tuple[str, int]:
    """Return host and port of the HTTP proxies of the Serve that runs."""
    options = serve_client().http_config
    return options.host, options.port


def forget_serve() -> None:
    """Have a Serve that was started since be found, instead of the one that this process remembers."""
    from ray.serve.context import _disconnect

    _disconnect()


def actor_id(handle: Any) -> str:
    """Return the id of the actor behind a handle."""
    return str(handle._actor_id.hex())


def clear_end_of_serve() -> None:
    """Remove the note by which a controller of Serve tells its successor to go on with ending.

    A controller that is asked to end while it ends already may leave it behind; the next one would end at once.
    """
    from ray.serve._private.constants import SERVE_NAMESPACE
    from ray.serve._private.controller import SHUTDOWN_IN_PROGRESS_KEY
    from ray.serve._private.storage.kv_store import RayInternalKVStore

    RayInternalKVStore(f"ray-serve-{SERVE_NAMESPACE}").delete(SHUTDOWN_IN_PROGRESS_KEY)


def end_unused_serve(controller: Any, patience_s: float) -> bool:
    """End Serve if it has no application, and wait for that; return whether it ends.

    The controller itself decides, so that no application can come between the look and the end.
    """
    if not ray.get(controller.__ray_call__.remote(_close_if_unused), timeout=patience_s):
        return False
    until = time.monotonic() + patience_s
    with contextlib.suppress(RayActorError, GetTimeoutError):
        while (left := until - time.monotonic()) > 0:
            ray.get(controller.check_alive.remote(), timeout=left)
            time.sleep(0.1)
    return True


def _close_if_unused(controller: Any) -> bool:
    """Runs in the controller, between two of its own calls: from now on it takes no application, and it ends by itself.

    `graceful_shutdown` after it would come too late now and then: see `clear_end_of_serve`.
    """
    if controller.application_state_manager.list_app_statuses():
        return False
    controller._shutting_down = True
    return True
