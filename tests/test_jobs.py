"""A real submission: a Ray head of its own, `ray job submit`, and what the job leaves behind.

The head has its own ports, token and folder, so it meets no other Ray of the machine, and is ended by its own process.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import requests
import yaml

import medsae_ray
from medsae_ray.core.artifacts.artifact import verify
from tests.support.small import onnx_encoder, recipe_data, table_dataset

ROOT = Path(__file__).resolve().parents[1]
RAY = Path(sys.executable).with_name("ray")
# Without a number for each, Ray takes ports that another Ray may hold, or waits for files that say which.
PORTS = (
    "port",
    "dashboard-port",
    "dashboard-agent-listen-port",
    "dashboard-agent-grpc-port",
    "metrics-export-port",
    "runtime-env-agent-port",
    "ray-client-server-port",
)
STARTS = 3


class Head(NamedTuple):
    """A running cluster: where jobs are sent, from where, and with what in the environment."""

    address: str
    upload: Path
    environment: dict[str, str]

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit` until the job ended; stdout is the job's log, the return code its exit status."""
        submit = [str(RAY), "job", "submit", "--address", self.address, "--working-dir", str(self.upload)]
        return subprocess.run(
            [*submit, "--", sys.executable, *command], env=self.environment, capture_output=True, text=True, timeout=240
        )

    def answers(self) -> bool:
        """Whether the list of jobs can be had: its agent is the last part of a head to start."""
        bearer = {"Authorization": f"Bearer {self.environment['RAY_AUTH_TOKEN']}"}
        try:
            return requests.get(f"{self.address}/api/jobs/", headers=bearer, timeout=5).ok
        except requests.RequestException:
            return False


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def takes_jobs(process: subprocess.Popen[bytes], head: Head, log: Path) -> bool:
    """Wait until the head takes jobs. False if it ends first: Ray gives a busy machine 30 s to start a node."""
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if "Ray runtime started" in log.read_text() and head.answers():
            return True
        time.sleep(0.5)
    return False


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What --working-dir sends: the package and the entry points. Its recipe "sent" is in no other copy."""
    folder, data = tmp_path_factory.mktemp("upload"), tmp_path_factory.mktemp("data")
    for part in ("medsae_ray", "jobs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    write_recipe(
        folder / "medsae_ray" / "recipes" / "sent.yaml", table_dataset(data, 48), onnx_encoder(data / "e.onnx")
    )
    return folder


@pytest.fixture(scope="module")
def head(upload: Path) -> Iterator[Head]:
    for _ in range(STARTS):
        with contextlib.ExitStack() as on_exit:
            found = on_exit.enter_context(started(upload))
            if found:
                yield found
                return
    pytest.fail(f"the Ray head did not start in {STARTS} tries")


@contextlib.contextmanager
def started(upload: Path) -> Iterator[Head | None]:
    """A head of our own, None if it did not start."""
    numbers = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    # Sockets live below: a path of pytest's own would be longer than the 107 characters that a socket's may have.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment |= {"RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0"}
    found = Head(f"http://127.0.0.1:{numbers['dashboard-port']}", upload, environment)
    start = [str(RAY), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", f"--temp-dir={folder}"]
    options = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", "--object-store-memory=200000000"]
    ports = [f"--{name}={number}" for name, number in numbers.items()] + ["--min-worker-port=0", "--max-worker-port=0"]
    log = folder / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*start, *options, *ports], env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        yield found if takes_jobs(process, found, log) else None
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """On SIGTERM the head ends what it started; what then is left of its group is killed."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(30)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def write_recipe(path: Path, table: Path, weights: Path) -> None:
    data = recipe_data(table, weights)
    data["what"]["sae"]["epochs"] = 4
    path.write_text(yaml.safe_dump(data))


def test_a_submitted_recipe_runs_to_its_report_with_the_package_that_came_with_it(head: Head, tmp_path: Path) -> None:
    # A recipe given by name is looked up in the package that runs: only the uploaded one knows this name.
    job = head.submit("jobs/pipeline.py", "sent", "--root", str(tmp_path))
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"report: {tmp_path}/report.html" in job.stdout
    assert "<svg" in (tmp_path / "report.html").read_text()
    stages = json.loads((tmp_path / "summary.json").read_text())["stages"]
    assert [stage["name"] for stage in stages][-1] == "atlas"
    for stage in stages:
        assert verify(medsae_ray.open_artifact(tmp_path / stage["artifact"])) == []


def test_a_refused_recipe_is_a_failed_job_that_says_why(head: Head, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    write_recipe(recipe, tmp_path / "absent.csv", onnx_encoder(tmp_path / "e.onnx"))
    job = head.submit("jobs/pipeline.py", str(recipe), "--root", str(tmp_path / "run"))
    assert job.returncode == 1, job.stdout + job.stderr
    # Ray shows the end of the log once more after the log itself.
    (line,) = {line for line in job.stdout.splitlines() if line.startswith("medsae:")}
    assert str(tmp_path / "absent.csv") in line and "Traceback" not in job.stdout
