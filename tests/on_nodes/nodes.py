"""Several real Ray nodes on one machine, each with a disk of its own where the machine allows mount namespaces.

Nodes are `ray start --block` processes of ours. To lose one, its raylet and all processes below it get SIGKILL, as when
a machine goes: nothing is said to anybody, and Ray's control service takes 15 s to notice.
"""

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import requests
from ray.job_submission import JobSubmissionClient

ROOT = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
START_S, TRIES = 180, 3
_PORTS = ("dashboard-agent-listen-port", "dashboard-agent-grpc-port", "metrics-export-port", "runtime-env-agent-port")


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("", 0))
        return [one.getsockname()[1] for one in sockets]


def namespaces() -> bool:
    """Whether nodes can have disks of their own here."""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0
    return False


def wait_for(sign: Callable[[], object], what: str, seconds: float = 900) -> None:
    until = time.monotonic() + seconds
    while not sign():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not in {seconds:.0f} s")
        time.sleep(0.3)


class Cluster:
    """A head and workers by name. Its environment is every job's."""

    def __init__(self, environment: dict[str, str], cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mr"))  # short: sockets live below
        self.cpus, self.own_disks = cpus, namespaces()
        self.port, self.dashboard, client = free_ports(3)
        kept = {key: value for key, value in environment.items() if key not in ("RAY_ADDRESS", "PYTHONPATH")}
        self.environment = kept | {
            "RAY_AUTH_MODE": "disabled",  # a token that a local Ray left would be asked for
            "RAY_USAGE_STATS_ENABLED": "0",
            "OMP_NUM_THREADS": "1",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }
        self.nodes: dict[str, psutil.Process] = {}
        self.returning: list[threading.Timer] = []
        self.client_port = client

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.dashboard}"

    def start_head(self, cpus: int) -> None:
        board = ["--include-dashboard=true", "--dashboard-host=127.0.0.1", f"--dashboard-port={self.dashboard}"]
        place = [f"--port={self.port}", f"--temp-dir={self.folder}/ray", f"--ray-client-server-port={self.client_port}"]
        for _ in range(TRIES):
            self._start("head", ["--head", f"--num-cpus={cpus}", *place, *board])
            wait_for(lambda: self._answers() or not self._runs("head"), "the head", START_S)
            if self._runs("head"):
                return
        raise RuntimeError((self.folder / "head.log").read_text())

    def start(self, name: str) -> None:
        """A worker node. Its session folder is its own: nodes that share one take away each other's working folders."""
        disk, seen = self.folder / name, self.folder / "ray"
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        arguments = [f"--address=127.0.0.1:{self.port}", f"--num-cpus={self.cpus}"]
        mount = ["unshare", "-m", "sh", "-c", f'mount --bind {disk} {seen} && exec "$@"', "sh"]
        for _ in range(TRIES):  # Ray gives a busy machine 30 s to start a node
            self._start(name, arguments, mount if self.own_disks else [])
            wait_for(lambda: self.started(name) or not self._runs(name), name, START_S)
            if self.started(name):
                return
        raise RuntimeError((self.folder / f"{name}.log").read_text())

    def started(self, name: str) -> bool:
        """Whether a node is part of the cluster."""
        log = self.folder / f"{name}.log"
        return name in self.nodes and log.exists() and "Ray runtime started" in log.read_text()

    def _runs(self, name: str) -> bool:
        with contextlib.suppress(psutil.Error):
            return bool(self.nodes[name].status() != psutil.STATUS_ZOMBIE)
        return False

    def _start(self, name: str, arguments: list[str], before: list[str] | None = None) -> None:
        ports = [f"--{port}={number}" for port, number in zip(_PORTS, free_ports(len(_PORTS)), strict=True)]
        common = ["--block", "--disable-usage-stats", "--object-store-memory=150000000", "--min-worker-port=0"]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                [*(before or []), RAY, "start", *arguments, *common, "--max-worker-port=0", *ports],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.nodes[name] = psutil.Process(process.pid)

    def _answers(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/api/jobs/", timeout=5).ok
        return False

    def processes(self, name: str) -> list[psutil.Process]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [self.nodes[name], *self.nodes[name].children(recursive=True)]
        return []

    def with_process(self, title: str) -> dict[str, psutil.Process]:
        """Worker nodes on which a process of this title (ray::MapWorker) runs, and one of it."""
        found = {}
        for name in list(self.nodes):
            for process in self.processes(name) if name != "head" else ():
                with contextlib.suppress(psutil.Error):
                    if any(title in part for part in process.cmdline()[:1]):
                        found[name] = process
        return found

    def lose(self, name: str) -> None:
        """SIGKILL, the raylet first."""
        doomed = self.processes(name)
        for process in sorted(doomed, key=lambda p: "raylet" not in _name(p)):
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(doomed, timeout=10)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.nodes[name].pid, os.WNOHANG)
        self.nodes.pop(name, None)

    def submit(self, upload: Path, *command: str) -> "Job":
        """As `ray job submit --working-dir` does, without a process more."""
        client = JobSubmissionClient(self.url)
        entry = shlex.join([sys.executable, *command])
        return Job(self, client.submit_job(entrypoint=entry, runtime_env={"working_dir": str(upload)}))

    def back_after(self, seconds: float, name: str) -> None:
        """A fresh node of this name, as an autoscaler brings one."""
        self.returning.append(threading.Timer(seconds, self.start, (name,)))
        self.returning[-1].start()

    def stop(self) -> None:
        for timer in self.returning:
            timer.cancel()
            timer.join()
        for name in sorted(self.nodes, key=lambda name: name == "head"):
            self.lose(name)
        shutil.rmtree(self.folder, ignore_errors=True)


def _name(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return ""


class Job:
    """One submission."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name

    def status(self) -> str:
        return str(requests.get(f"{self.cluster.url}/api/jobs/{self.name}", timeout=30).json()["status"])

    def log(self) -> str:
        return str(requests.get(f"{self.cluster.url}/api/jobs/{self.name}/logs", timeout=30).json()["logs"])

    def over(self) -> bool:
        return self.status() in ("SUCCEEDED", "FAILED", "STOPPED")

    def driver(self) -> psutil.Process:
        return next(
            p for p in self.cluster.processes("head") if p.cmdline()[1:2] and p.cmdline()[1].endswith("pipeline.py")
        )

    def stop(self) -> None:
        requests.post(f"{self.cluster.url}/api/jobs/{self.name}/stop", timeout=30).raise_for_status()
        wait_for(self.over, f"the end of {self.name}")

    def succeeds(self, seconds: float = 900) -> str:
        wait_for(self.over, self.name, seconds)
        log = self.log()
        assert self.status() == "SUCCEEDED", log[-4000:]
        return log


@contextlib.contextmanager
def cluster(environment: dict[str, str], workers: int, cpus: int = 2, head_cpus: int = 1) -> Iterator[Cluster]:
    found = Cluster(environment, cpus)
    try:
        found.start_head(head_cpus)
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(found.start, [f"w{number}" for number in range(1, workers + 1)]))
        yield found
    finally:
        found.stop()
