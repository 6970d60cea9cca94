"""What Ray keeps to itself is as `cluster/ray_private.py` and `engine/ray_llm.py` expect it.

A new version of Ray fails here first, by the name of the use. The ends of Serve are in `tests/engine/test_keeper.py`.
"""

import ast
import inspect
import re
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
import ray
from ray import serve

from medsae_ray.cluster import ray_private as private

ROOT = Path(__file__).resolve().parents[2]
PRIVATE = re.compile(
    r"\bray(\.\w+)*\.(_\w+|experimental\.internal_kv|serve\.context|autoscaler|core\.generated)\b|\b_internal_kv_|\bserve\._"
)
ALLOWED = ("cluster/ray_private.py", "engine/ray_llm.py")


def test_no_other_module_takes_a_name_that_ray_keeps_to_itself() -> None:
    def uses(path: Path) -> Iterator[str]:
        text = path.read_text()
        for node in ast.walk(ast.parse(text if "ray" in text.replace("medsae_ray", "") else "")):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield from (f"{node.module}.{name.name}" for name in node.names)
            elif isinstance(node, ast.Import | ast.Attribute):
                yield ast.unparse(node)

    files = [file for room in ("medsae_ray", "jobs", "serve") for file in (ROOT / room).rglob("*.py")]
    assert [
        f"{f.name}: {use}" for f in files if not str(f).endswith(ALLOWED) for use in uses(f) if PRIVATE.search(use)
    ] == []


@pytest.fixture
def a_key(ray_cluster: None) -> Iterator[str]:
    yield "test-ray-private/a"
    private.kv_delete("test-ray-private/", as_prefix=True)


def test_the_clusters_key_value_store_keeps_what_it_is_given(a_key: str) -> None:
    assert private.kv_get(a_key) is None and private.kv_keys("test-ray-private/") == []
    for value in (b"old", b"new"):
        private.kv_put(a_key, value)
    private.kv_put("test-ray-private/b", b"")
    assert private.kv_get(a_key.encode()) == b"new"
    assert sorted(private.kv_keys("test-ray-private/")) == [a_key, "test-ray-private/b"]
    private.kv_delete(a_key)
    assert private.kv_keys("test-ray-private/") == ["test-ray-private/b"]


def test_who_started_a_cluster_ends_it_and_its_workers_do_not(ray_cluster: None) -> None:
    assert private.ends_with_us()
    assert not ray.get(ray.remote(num_cpus=0)(private.ends_with_us).remote())


def test_this_machine_has_processors() -> None:
    assert private.cpus_here() >= 1 and private.gpus_here() >= 0


def test_gpus_are_counted_up_to_those_that_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private.Nvidia, "get_current_node_num_accelerators", lambda: 4)
    assert private.gpus_here() == 4
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert private.gpus_here() == 2


def test_ray_prints_through_a_function_that_can_be_wrapped() -> None:
    assert list(inspect.signature(private.worker.print_to_stdstream).parameters) == ["data", "ignore_prefix"]


def test_a_cluster_tells_its_nodes_and_what_waits_for_room(ray_cluster: None) -> None:
    status = private.cluster_status()
    assert len([*status.active_nodes, *status.idle_nodes]) == 1
    assert [*status.pending_nodes, *status.pending_launches] == []
    assert status.resource_demands.ray_task_actor_demand == [] == status.resource_demands.placement_group_demand
    assert private.node_groups() == ()


def test_every_head_has_an_autoscaler_that_reports(ray_cluster: None) -> None:
    until = time.monotonic() + 60
    while not (report := private.autoscaler_report()) and time.monotonic() < until:
        time.sleep(0.5)
    assert sum(report["active_nodes"].values()) == 1 and private.has_autoscaler()


def test_messages_of_the_autoscaler_have_the_fields_that_are_read() -> None:
    from ray.core.generated.autoscaler_pb2 import ClusterConfig, GetClusterStatusReply, NodeGroupConfig

    assert GetClusterStatusReply().autoscaling_state.autoscaler_state_version == 0
    group = NodeGroupConfig(name="gpu", resources={"GPU": 1}, max_count=2)
    assert ClusterConfig(node_group_configs=[group]).node_group_configs[0].max_count == 2


def test_kuberays_configuration_is_made_from_two_names() -> None:
    from ray.autoscaler._private.kuberay.autoscaling_config import AutoscalingConfigProducer

    inspect.signature(AutoscalingConfigProducer).bind("cluster", "namespace")
    assert callable(AutoscalingConfigProducer.__call__)


def test_ray_has_its_own_names_for_the_head_and_for_replicas() -> None:
    from ray._common.constants import HEAD_NODE_RESOURCE_NAME
    from ray.serve._private.common import REPLICA_ID_FULL_ID_STR_PREFIX

    assert private.HEAD == HEAD_NODE_RESOURCE_NAME
    assert private.REPLICA == REPLICA_ID_FULL_ID_STR_PREFIX


def test_serve_takes_an_application_without_waiting_for_it() -> None:
    inspect.signature(serve._run).bind(None, name="a", route_prefix=None, _blocking=False)


def test_a_serve_that_runs_is_known_by_controller_and_address(http_port: int) -> None:
    assert private.serve_address() == ("127.0.0.1", http_port)
    assert private.serve_details()["proxies"]
    known = private.actor_id(private.serve_controller())
    private.forget_serve()
    assert (
        private.actor_id(private.serve_controller())
        == known
        == ray.get_actor("SERVE_CONTROLLER_ACTOR", namespace="serve")._actor_id.hex()
    )
    ray.get(private.serve_controller().check_alive.remote())


def test_serves_controller_ends_by_the_flag_that_is_set_in_it() -> None:
    from ray.serve._private.controller import ServeController

    source = inspect.getsource(ServeController)
    for name in (
        "self._shutting_down = True",
        "self.application_state_manager = ",
        "def check_alive(",
        "kv_store.get(SHUTDOWN_IN_PROGRESS_KEY)",
    ):
        assert name in source
    assert 'f"ray-serve-{' in source and "RayInternalKVStore(" in source


def test_ray_serve_llm_has_the_methods_that_are_replaced() -> None:
    """Read and not imported, which takes half a minute."""
    folder = Path(str(find_spec("ray").origin)).parent / "llm/_internal"  # type: ignore[union-attr]
    engine = (folder / "serve/engines/vllm/vllm_engine.py").read_text()
    (made,) = [
        node
        for node in ast.walk(ast.parse(engine))
        if isinstance(node, ast.FunctionDef) and node.name == "_start_async_llm_engine"
    ]
    assert [argument.arg for argument in made.args.args][1:4] == [
        "vllm_engine_args",
        "vllm_engine_config",
        "placement_group",
    ]
    assert "self._engine_client = self._start_async_llm_engine(" in engine
    callback = (folder / "common/callbacks/base.py").read_text()
    assert "async def on_before_node_init(self)" in callback and "run_init_node" in callback


def test_a_raylet_has_two_agents_under_their_names(ray_cluster: None) -> None:
    raylet = psutil.Process(private.raylet_here())
    assert raylet.name() == "raylet"
    assert len([child for child in raylet.children() if re.match(private.AGENT, child.cmdline()[0])]) == 2
