"""A real submission: a Ray head of its own, `ray job submit`, and what the job leaves behind.

The head has its own ports, token and folder, so it meets no other Ray of the machine, and is ended by its own process.
"""

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
from medsae_ray.core.artifact import verify
from tests.small import onnx_encoder, recipe_data, table_dataset

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


class Head(NamedTuple):
    """A running cluster: where jobs are sent, from where, and with what in the environment."""

    address: str
    upload: Path
    environment: dict[str, str]

    def submit(self, *command: str) -> subprocess.CompletedProcess[str]:
        """`ray job submit` until the job ended; stdout is the job's log, the return code its exit status."""
        submit = [RAY, "job", "submit", "--address", self.address, "--working-dir", self.upload, "--", sys.executable]
        return subprocess.run([*submit, *command], env=self.environment, capture_output=True, text=True, timeout=240)


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def wait_for_agent(process: subprocess.Popen[bytes], head: Head, log: Path) -> None:
    """Return when the head takes jobs; its log is the message if it does not."""
    bearer = {"Authorization": f"Bearer {head.environment['RAY_AUTH_TOKEN']}"}
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            # Answered by the agent, the last part to start.
            if requests.get(f"{head.address}/api/jobs/", headers=bearer, timeout=5).ok and "Ray runtime started" in (
                log.read_text()
            ):
                return
        except requests.RequestException:
            pass
        time.sleep(0.5)
    pytest.fail(f"the Ray head did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def upload(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What --working-dir sends: the package and the entry points, and a script that tells where it found them."""
    folder = tmp_path_factory.mktemp("upload")
    for part in ("medsae_ray", "jobs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "where.py").write_text("import medsae_ray\nprint('package:', medsae_ray.__file__)\n")
    return folder


@pytest.fixture(scope="module")
def head(upload: Path) -> Iterator[Head]:
    numbers = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    # Sockets live below: a path of pytest's own would be longer than the 107 characters that a socket's may have.
    folder = Path(tempfile.mkdtemp(prefix="ray-"))
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    found = Head(f"http://127.0.0.1:{numbers['dashboard-port']}", upload, environment)
    start = [RAY, "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2", f"--temp-dir={folder}"]
    options = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", "--object-store-memory=200000000"]
    ports = [f"--{name}={number}" for name, number in numbers.items()] + ["--min-worker-port=0", "--max-worker-port=0"]
    log = folder / "head.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*start, *options, *ports], env=environment, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        wait_for_agent(process, found, log)
        yield found
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """On SIGTERM the head drains and ends what it started; what then is left of its group is killed."""
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        pass
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def recipe(folder: Path, images: int = 48) -> Path:
    """A recipe file with its table, images and encoder beside it."""
    data = recipe_data(table_dataset(folder, images), onnx_encoder(folder / "e.onnx"))
    data["what"]["sae"]["epochs"] = 4
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_a_job_uses_the_package_that_came_with_it(head: Head) -> None:
    job = head.submit("where.py")
    assert job.returncode == 0, job.stdout + job.stderr
    (line,) = [line for line in job.stdout.splitlines() if line.startswith("package:")]
    assert "/working_dir_files/" in line and str(ROOT) not in line


def test_a_submitted_recipe_runs_to_its_report(head: Head, tmp_path: Path) -> None:
    root = tmp_path / "run"
    job = head.submit("jobs/pipeline.py", str(recipe(tmp_path)), "--root", str(root))
    assert job.returncode == 0, job.stdout + job.stderr
    assert f"report: {root}/report.html" in job.stdout
    assert "<svg" in (root / "report.html").read_text()
    stages = json.loads((root / "summary.json").read_text())["stages"]
    assert [stage["name"] for stage in stages][-1] == "atlas"
    for stage in stages:
        assert verify(medsae_ray.open_artifact(root / stage["artifact"])) == []


def test_a_refused_recipe_is_a_failed_job_that_says_why(head: Head, tmp_path: Path) -> None:
    path = recipe(tmp_path)
    (tmp_path / "labels.csv").unlink()
    job = head.submit("jobs/pipeline.py", str(path), "--root", str(tmp_path / "run"))
    assert job.returncode == 1
    (line,) = [line for line in job.stdout.splitlines() if line.startswith("medsae:")]
    assert "labels.csv" in line
    assert "Traceback" not in job.stdout
