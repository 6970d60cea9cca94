"""A cluster that can grow, with Ray's own autoscaler: its nodes are processes of this machine."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.conftest import free_port

HEAD = "fffffffffffffffffffffffffffffffffffffffffffffffffff00000"
"""What Ray's stand-in for a cloud calls the head node."""
EMPTY_LISTS = (
    *("cluster_synced_files", "rsync_exclude", "rsync_filter", "initialization_commands", "setup_commands"),
    *("head_setup_commands", "worker_setup_commands", "head_start_ray_commands", "worker_start_ray_commands"),
)

DRIVER = """
import logging, sys, time
import ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
from tests.support.small import recipe_of
from pathlib import Path
from medsae_ray.errors import RecipeError
from medsae_ray.cluster import waiting
from medsae_ray.cluster.capacity import cluster_capacity, growth
from medsae_ray.config.how import Train
from medsae_ray.cluster.demands import train_demand, unit_of
from medsae_ray.preflight.equipment import FILE, FOLDER, MODULE, Thing, lacking
from ray.util import placement_group
from medsae_ray.preflight.needs import phases_of
from medsae_ray.pipeline import STAGES
from medsae_ray.cluster.placing import check_placeable

def demanded(**embed):
    return phases_of(recipe_of(Path("."), embed=embed), STAGES, ["embeddings"])

grown = growth()
print("GROWTH", [(k.name, dict(k.amounts), k.more) for k in grown.kinds], grown.more)
check_placeable(demanded(gpus=1.0), cluster_capacity(), lambda text: print("SAID", text))
for embed in ({"gpus": 2.0}, {"gpus": 1.0, "actors": 2}, {"cpus": 3.0}):
    try:
        check_placeable(demanded(**embed), cluster_capacity(), print)
    except RecipeError as error:
        print("REFUSED", error)
waiting.LOOK_S, waiting.FIRST_S = 0.5, 2.0
stuck = ray.remote(num_cpus=3)(lambda: None).remote()
with waiting.waiting(lambda text: print("SAID", text), demanded(cpus=3.0)[0].demands):
    time.sleep(8)
ray.cancel(stuck)
print("RAN", ray.get(ray.remote(num_cpus=1, num_gpus=1)(lambda: "on a new node").remote(), timeout=90))
check_placeable(demanded(gpus=1.0), cluster_capacity(), lambda text: print("STILL", text))
unit = demanded()[0].demands[0].unit
things = [Thing(MODULE, "json", "a", unit), Thing(MODULE, "no_such_package", "how.vlm", unit)]
things += [Thing(FILE, "/nowhere/x.bin", "how.paths.weights", unit), Thing(FOLDER, "/tmp/medsae/x", "b", unit)]
lacks, silent = lacking([*things, Thing(FILE, "/tmp", "how.paths.images", unit_of(64, 0))])
for problem in lacks:
    print("LACKS", problem)
print("SILENT", silent)
workers = placement_group([{"CPU": 2}] * 3)
with waiting.waiting(lambda text: print("SAID", text), [train_demand("sae", Train(workers=3, cpus=2.0))]):
    time.sleep(6)
print("NODES", len(cluster_capacity().nodes), "LEFT", growth().more)
"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A head of 2 CPUs, and an autoscaler that may start one node with a GPU."""
    port = free_port()
    config = {
        "cluster_name": "small",
        "max_workers": 1,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 5,
        "docker": {},
        "auth": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        "provider": {"type": "fake_multinode", "gcs_address": f"127.0.0.1:{port}"},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 2}, "node_config": {}, "max_workers": 0},
            "gpu": {"resources": {"CPU": 2, "GPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 1},
        },
        "head_node_type": "ray.head.default",
        **{name: [] for name in EMPTY_LISTS},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    own = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1", "RAY_OVERRIDE_NODE_ID_FOR_TESTING": HEAD}
    ray = Path(sys.executable).with_name("ray")
    command = [str(ray), "start", "--head", "--block", f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2"]
    command += [
        f"--autoscaling-config={tmp_path / 'config.json'}",
        "--include-dashboard=false",
        "--disable-usage-stats",
    ]
    command += [f"--temp-dir=/tmp/g{port}", "--num-gpus=0"]
    environment = {**os.environ, **own, "RAY_AUTH_MODE": "disabled"}
    with (tmp_path / "log").open("w") as log:
        head = subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)
    until = time.monotonic() + 60
    while "runtime started" not in (tmp_path / "log").read_text() and time.monotonic() < until:
        assert head.poll() is None, (tmp_path / "log").read_text()
        time.sleep(0.5)
    yield f"127.0.0.1:{port}"
    tree = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    head.wait(30)


@pytest.mark.ray
def test_a_cluster_grows_for_what_it_has_no_node_for_yet(address: str, tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "RAY_AUTH_MODE": "disabled"}
    environment.pop("RAY_ADDRESS", None)
    asked = [sys.executable, "-c", DRIVER, address]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=240, check=False, env=environment)
    said = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert said[0] == "GROWTH [('gpu', {'CPU': 2.0, 'GPU': 1.0}, 1)] 1"
    assert "SAID waiting for 1 x {CPU: 1, GPU: 1} (how.embed.gpus): the cluster may start `gpu` nodes" in said
    refused = [line for line in said if line.startswith("REFUSED")]
    assert [line.split()[1] for line in refused] == ["how.embed.gpus", "how.embed.actors", "how.embed.cpus"]
    assert all("it may start 1 x `gpu` {CPU: 2, GPU: 1}" in line for line in refused)
    assert any(
        line.startswith("SAID waiting for 1 x {CPU: 3} (how.embed.cpus): no node has that free") for line in said
    )
    assert "RAN on a new node" in said and "SILENT []" in said and said[-1] == "NODES 2 LEFT 0"
    module, file = (line for line in said if line.startswith("LACKS"))
    assert module.startswith("LACKS how.vlm needs the package no_such_package: node ")
    assert (
        "how.paths.weights is /nowhere/x.bin: node " in file and "does not have it: put it on a disk that all" in file
    )
    assert any(line.startswith("SAID waiting for 3 x {CPU: 2} (how.train.cpus)") for line in said)
