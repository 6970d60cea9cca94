"""Two naming jobs at once, beside an application of somebody else on Ray Serve, with the real engine; and a driver that
is killed. What they cost in seconds is printed. Takes minutes on two cores."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
import yaml

from medsae_ray.engine.client import APPLICATION
from medsae_ray.engine.leases import ABSENT, LEASE_S, RUNNING
from tests.on_nodes.nodes import ROOT, Cluster, Job, free_ports, wait_for
from tests.on_nodes.ward import upload_to

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

IDLE_S = 5
"""how.vlm.idle_s of the jobs here."""
GONE_S = 60
"""Within so many seconds of the last job no engine is left."""
A_LINE_S = 60
"""A stage that is at work has a line in its job's log at least so often."""
SLACK_S = 15
"""What a busy machine, and looks every few seconds, add to a time that is measured."""

THEIRS = """
import sys, ray
from ray import serve
ray.init(address=sys.argv[1], log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
@serve.deployment(ray_actor_options={"num_cpus": 0})
class Hello:
    async def __call__(self, request):
        return "hello"
serve.run(Hello.bind(), name="theirs", route_prefix="/theirs")
"""
WATCH = f"""
import json, logging, sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level=logging.ERROR)
from medsae_ray.engine.keeper import NAME, NAMESPACE
from medsae_ray.engine.serve_status import found
while True:
    leases = []
    try:  # without starting a keeper
        leases = ray.get(ray.get_actor(NAME, NAMESPACE).report.remote({APPLICATION!r}), timeout=20)["leases"]
    except Exception:
        pass
    print(json.dumps([time.time(), found({APPLICATION!r}).status, [who for who, _ in leases]]), flush=True)
    time.sleep(1)
"""


class Watched:
    """What the cluster's engine was at which time, by a process that looks every second or so."""

    def __init__(self, cluster: Cluster) -> None:
        self.seen: list[tuple[float, str, list[str]]] = []
        address = f"127.0.0.1:{cluster.port}"
        environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", WATCH, address]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, daemon=True).start()
        wait_for(lambda: self.seen, "the first look at the engine", 120)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("["):
                self.seen.append(tuple(json.loads(line)))

    @property
    def status(self) -> str:
        return self.seen[-1][1]

    def holders(self) -> int:
        """As many as ever held the engine at once."""
        return max(len(leases) for _, _, leases in self.seen)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One node: what is shared is the engine."""
    found = Cluster(dict(os.environ))
    try:
        found.start_head(cpus=4)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def theirs(cluster: Cluster) -> str:
    """The address of somebody else's application, who has started Serve too."""
    (port,) = free_ports(1)
    command = [sys.executable, "-c", THEIRS, f"127.0.0.1:{cluster.port}", str(port)]
    done = subprocess.run(command, env=cluster.environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return f"http://127.0.0.1:{port}/theirs"


@pytest.fixture(scope="module")
def watched(cluster: Cluster, theirs: str) -> Iterator[Watched]:
    found = Watched(cluster)
    yield found
    found.process.kill()
    found.process.wait()


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is sent, with a recipe that asks the packaged model about few images, and keeps the engine for a moment."""
    folder = upload_to(tmp_path_factory.mktemp("upload"))
    data: dict[str, Any] = yaml.safe_load((ROOT / "medsae_ray" / "recipes" / "phantom.yaml").read_text())
    data["what"]["dataset"]["patients"] = 240
    data["what"]["shard_rows"] = 48
    data["what"]["sae"] = {"architecture": "topk", "width": 12, "k": 3, "epochs": 20, "batch_size": 32}
    data["what"]["naming"]["detection"] = {"positives": 10, "negatives": 10, "pool": 40}
    data["how"]["train"] = {"workers": 1}
    data["how"]["vlm"]["idle_s"] = IDLE_S
    (folder / "small.yaml").write_text(yaml.safe_dump(data))
    return folder


def submitted(cluster: Cluster, upload: Path, root: Path) -> Job:
    return cluster.submit(upload, "jobs/pipeline.py", "small.yaml", "--root", str(root))


def status_of(root: Path) -> dict[str, Any]:
    """What `status.json` of a root says by now."""
    try:
        found: dict[str, Any] = json.loads((root / "status.json").read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return {"stages": []}
    return found


def at_work(root: Path) -> set[str]:
    return {stage["name"] for stage in status_of(root)["stages"] if stage["state"] == "running"}


def seconds_until(sign: Callable[[], object], what: str, seconds: float) -> float:
    start = time.monotonic()
    wait_for(sign, what, seconds)
    return time.monotonic() - start


class Silences:
    """The longest time that each stage of a job was at work without a line in its log."""

    def __init__(self, job: Job, root: Path) -> None:
        self.job, self.root = job, root
        self.since: dict[str, tuple[float, int]] = {}
        self.longest: dict[str, float] = {}

    def look(self) -> None:
        log, now = self.job.log(), time.monotonic()
        working = at_work(self.root)
        for stage in working:
            lines = sum(f"{stage}: " in line for line in log.splitlines())
            since, before = self.since.get(stage, (now, -1))
            self.since[stage] = (since, before) if lines == before else (now, lines)
            self.longest[stage] = max(self.longest.get(stage, 0.0), now - self.since[stage][0])
        for stage in self.since.keys() - working:
            del self.since[stage]


def test_two_jobs_share_one_engine_and_what_is_others_stays(
    cluster: Cluster, theirs: str, watched: Watched, upload: Path, tmp_path: Path
) -> None:
    roots = [tmp_path / name for name in ("one", "two")]
    start = time.monotonic()
    jobs = [submitted(cluster, upload, root) for root in roots]
    silences = [Silences(job, root) for job, root in zip(jobs, roots, strict=True)]
    numbers: dict[str, dict[str, float]] = {}
    while not all(job.over() for job in jobs):
        for silence in silences:
            silence.look()
        for root in roots:
            numbers |= metrics(cluster, root)
        assert requests.get(theirs, timeout=60).text == "hello"
        assert time.monotonic() - start < 1800
        time.sleep(2)
    for job in jobs:
        job.succeeds(60)
    print(f"two jobs: {time.monotonic() - start:.0f} s; at most {watched.holders()} held the engine at once")
    gone = seconds_until(lambda: watched.status == ABSENT, "the engine's end", GONE_S)
    print(f"no engine {gone:.0f} s after the last job; longest silences: {[s.longest for s in silences]}")
    assert watched.holders() == 2
    assert requests.get(theirs, timeout=60).text == "hello"
    for root in roots:
        told = status_of(root)
        assert expected(told).items() <= numbers[told["run"]].items(), (expected(told), numbers[told["run"]])
    assert max(seconds for silence in silences for seconds in silence.longest.values()) < A_LINE_S


def metrics(cluster: Cluster, root: Path) -> dict[str, dict[str, float]]:
    """Run -> counter and stage -> value, by curl, as at the node now."""
    run = status_of(root).get("run")
    (group,) = json.loads((cluster.folder / "ray" / "prom_metrics_service_discovery.json").read_text())
    targets = group["targets"]
    said = "".join(
        subprocess.run(["curl", "-s", f"http://{target}/metrics"], capture_output=True, text=True).stdout
        for target in targets
    )
    found = {}
    for line in said.splitlines():
        if run and line.startswith("ray_medsae_") and "_total{" in line and f'run="{run}"' in line:
            name = line.partition("{")[0].removeprefix("ray_medsae_").removesuffix("_total")
            stage = line.partition('stage="')[2].partition('"')[0]
            found[f"{stage} {name}"] = float(line.rpartition(" ")[2])
    return {run: found} if run and found else {}


def expected(told: dict[str, Any]) -> dict[str, float]:
    """Counters of the stages that ended long before the run, as its status file has them: a node hears of them every
    ten seconds, and not after the driver's end."""
    stages = {stage["name"]: stage["counts"] for stage in told["stages"]}
    counts = (("parts", "parts"), ("images", "rows"))
    return {f"{stage} {name}": stages[stage][count] for stage in ("images", "embeddings") for name, count in counts}


def test_the_engine_of_a_killed_driver_ends_with_its_lease(
    cluster: Cluster, theirs: str, watched: Watched, upload: Path, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    job = submitted(cluster, upload, root)
    wait_for(lambda: job.over() or (watched.status == RUNNING and at_work(root) & {"names", "answers"}), "names", 900)
    assert not job.over(), job.log()[-3000:]
    engines = processes(cluster, "VLLM::")
    job.driver().send_signal(signal.SIGSTOP)  # a driver that hangs holds the engine until its lease is over
    with ThreadPoolExecutor() as pool:
        status, refused = pool.map(lambda action: command(cluster, action), ("status", "stop"))
    assert "in use by the run of Phantom radiographs (process " in status.stdout
    assert refused.returncode == 1 and f"{APPLICATION} is in use by the run of Phantom radiographs" in refused.stderr
    job.driver().send_signal(signal.SIGKILL)
    gone = seconds_until(lambda: watched.status == ABSENT, "the engine's end", LEASE_S + IDLE_S + 60)
    print(f"the engine of a killed driver was gone after {gone:.0f} s (lease {LEASE_S:.0f} s, idle {IDLE_S} s)")
    assert gone < LEASE_S + IDLE_S + SLACK_S
    assert engines
    wait_for(lambda: not processes(cluster, "VLLM::"), "the end of vLLM's own processes", 30)
    assert requests.get(theirs, timeout=60).text == "hello"
    for action in ("status", "stop"):
        said = command(cluster, action)
        assert said.stdout.strip() == "no engine runs on this cluster", said.stdout + said.stderr


def command(cluster: Cluster, action: str) -> "subprocess.CompletedProcess[str]":
    """`medsae engine ACTION`, from anywhere."""
    return subprocess.run(
        [sys.executable, "-m", "medsae_ray.cli", "engine", action, "--address", f"127.0.0.1:{cluster.port}"],
        env=cluster.environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def processes(cluster: Cluster, title: str) -> list[psutil.Process]:
    found = []
    for process in cluster.processes("head"):
        try:
            if any(title in part for part in process.cmdline()[:1]):
                found.append(process)
        except psutil.Error:
            continue
    return found
