"""The local cluster of a run or a service: who may use it, and what is left of it when its driver is killed."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import grpc
import psutil
import pytest

GCS = ("InternalKVGcsService/InternalKVKeys", "NodeInfoGcsService/GetAllNodeInfo", "JobInfoGcsService/GetAllJobInfo")
GONE_S = 30
"""The seconds after which nothing of a killed driver's cluster may be left."""
DRIVER = """
import time
import ray
from medsae_ray.cluster.joining import cluster
from medsae_ray.config import How

with cluster(How(cpus=1)):
    ray.get(ray.remote(num_cpus=1)(lambda: 1).remote())
    (node,) = ray.nodes()
    print(ray.get_runtime_context().gcs_address, f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}", flush=True)
    time.sleep(600)
"""

pytestmark = pytest.mark.ray


class Driver(NamedTuple):
    process: subprocess.Popen[str]
    gcs: str
    raylet: str


@pytest.fixture(scope="module")
def driver() -> Iterator[Driver]:
    """A process with a cluster of its own, as a shell starts it: nobody has set anything about Ray's tokens."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-c", DRIVER]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Driver(process, *process.stdout.readline().split())
        process.kill()


def said_by(address: str, method: str, token: str | None) -> grpc.StatusCode:
    """What a server of Ray answers to an empty request of a client that is not Ray's."""
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(f"/ray.rpc.{method}", lambda sent: sent, lambda got: got)
        metadata = [("authorization", f"Bearer {token}")] if token is not None else []
        try:
            call(b"", metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("method", GCS)
def test_nobody_uses_the_cluster_without_rays_token(driver: Driver, method: str) -> None:
    from ray._private.authentication.authentication_token_setup import AuthenticationTokenLoader

    for wrong in (None, "", "x" * 64):
        assert said_by(driver.gcs, method, wrong) is grpc.StatusCode.UNAUTHENTICATED
    loader = AuthenticationTokenLoader.instance()
    right = loader.get_raw_token(ignore_auth_mode=True)
    assert said_by(driver.gcs, method, right) is grpc.StatusCode.OK


def test_nobody_runs_anything_on_the_node_without_rays_token(driver: Driver) -> None:
    method = "NodeManagerService/GetNodeStats"
    assert said_by(driver.raylet, method, None) is grpc.StatusCode.UNAUTHENTICATED


def test_a_killed_driver_leaves_no_process(driver: Driver) -> None:
    processes = psutil.Process(driver.process.pid).children(recursive=True)
    names = " ".join(process.name() for process in processes)
    assert "gcs_server" in names and "raylet" in names and names.count("Agent") == 2 and "sh" in names
    begun = time.monotonic()
    driver.process.kill()
    _, left = psutil.wait_procs(processes, timeout=GONE_S)
    print(f"the last process was gone after {time.monotonic() - begun:.1f} s")
    assert left == []
