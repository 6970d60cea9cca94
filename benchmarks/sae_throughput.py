"""The training steps of this package's SAEs and of other libraries': elapsed time, processor time and memory.

    make bench-peers
    python benchmarks/sae_throughput.py --json result.json

Writes {architecture: {library: {precision, samples_per_s, core_ms_per_step, peak_mb}}}. Every library is a process in
its own environment; all get the same rows, batches, threads and precision, and take turns of a few steps, so a machine
that slows down slows all. Figures are medians over turns, without the first (compilation, first memory).
core_ms_per_step is processor time over all threads, which other jobs on a shared machine disturb least. peak_mb is the
memory of training beyond the process with its libraries and rows; on a GPU the memory that torch allocates. No feature
is dead so early, so no auxiliary loss is in it. relu_l1 has the first steps of each library from its default start:
half of all features active in the others, start_l0 of them in ours. In relu_l1_dense ours starts as the others do, in
relu_l1_sparse all start with k active features, where training ends. relu_l1_run is a training run of --epochs turns
over rows that are mixtures of known atoms; figures are means over all turns but the last.
On a GPU box with torch and numpy alone: --device cuda --libraries ours. With --parts the figures of ours get a further
field, `step`: see sae_parts.py.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from sae_peers import ARCHITECTURES, LIBRARIES, Job, environment, planted, python, train

MARK = "turn:"
"""Starts the lines that a worker means for us; libraries print as well."""


KINDS = ("_dense", "_sparse", "_run")
"""Of relu_l1: how it starts, or that a whole run is measured."""


class Turn(NamedTuple):
    """One turn of a worker."""

    core_s: float
    wall_s: float
    peak_mb: float


class Pace:
    """In a worker: waits for its turn, and tells how long the last one took."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.base = 0.0

    def start(self) -> None:
        """Wait for the first turn."""
        self.base = _reset_peak(self.device)
        self._wait()

    def between(self) -> None:
        """Report the turn that ends, and wait for the next."""
        if self.device == "cuda":
            torch.cuda.synchronize()
        turn = Turn(time.process_time() - self.core, time.perf_counter() - self.wall, _peak(self.device) - self.base)
        print(MARK + json.dumps(turn), flush=True)
        self._wait()

    def _wait(self) -> None:
        if not sys.stdin.readline():
            sys.exit()
        self.core, self.wall = time.process_time(), time.perf_counter()


def _reset_peak(device: str) -> float:
    """Forget the peak so far; MB in use now."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated() / 1e6
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")
    return _peak(device)


def _peak(device: str) -> float:
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def work(job: Job, data: str, threads: int) -> None:
    """A worker's life: it ends when nobody asks for another turn."""
    torch.set_num_threads(threads)
    x_ND = torch.from_numpy(np.load(data)).to(job.device)
    _warm(job)
    pace = Pace(job.device)
    pace.start()
    train(job, x_ND, pace.between)


def _warm(job: Job) -> None:
    """A tiny training run imports what is imported late."""
    small = Job(job.library, job.architecture, 64, 2, 16, 2, device=job.device, precision=job.precision)
    train(small, torch.randn(32, 16, device=job.device), lambda: None)


class Worker:
    """A worker, seen from here."""

    def __init__(self, job: Job, data: str, threads: int) -> None:
        interpreter = python(job.library)
        assert interpreter is not None
        call = [interpreter, __file__, "--worker", json.dumps(asdict(job)), "--data", data]
        self.job = job
        self.turns: list[Turn] = []
        self.process = subprocess.Popen(
            [*call, "--threads", str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment(threads),
        )

    def turn(self) -> None:
        """Let the worker run for one turn, and keep its figures. SystemExit if the worker ends instead."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                self.turns.append(Turn(*json.loads(line.removeprefix(MARK))))
                return
        raise SystemExit(f"a worker ended early (status {self.process.wait()}): {self.process.args!r}")

    def close(self) -> None:
        """Tell the worker to end, and wait until it has."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(chosen: argparse.Namespace, architecture: str, libraries: list[str], data: str) -> dict[str, Any]:
    """One architecture, all libraries in turns."""
    run = architecture.endswith("_run")
    workers = {}
    for library in libraries:
        job = Job(
            library,
            _base(architecture),
            chosen.m,
            chosen.k,
            chosen.batch,
            epochs=chosen.epochs if run else chosen.rounds + 3,
            sparse=architecture.endswith("_sparse"),
            start_l0=None if architecture.endswith("_dense") else 64.0,
            dead_after=1_000_000,
            precision=chosen.precision,
            device=chosen.device,
        )
        workers[library] = Worker(job, data, chosen.threads)
    for _ in range(chosen.epochs - 1 if run else chosen.rounds + 1):
        for worker in workers.values():
            worker.turn()
    for worker in workers.values():
        worker.close()
    first, middle = (0, statistics.mean) if run else (1, statistics.median)
    found = {library: _figures(worker.turns[first:], middle, chosen) for library, worker in workers.items()}
    if chosen.parts and "ours" in found and not architecture.endswith("_sparse"):
        found["ours"]["step"] = _parts(workers["ours"].job, data, chosen.threads)
    return found


def _parts(job: Job, data: str, threads: int) -> dict[str, Any]:
    """What sae_parts.py says of one step of ours."""
    script = str(Path(__file__).with_name("sae_parts.py"))
    call = [sys.executable, script, json.dumps(asdict(job)), data, str(threads)]
    done = subprocess.run(call, env=environment(threads), stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout))


def _base(architecture: str) -> str:
    return next((architecture.removesuffix(kind) for kind in KINDS if architecture.endswith(kind)), architecture)


def _figures(turns: list[Turn], middle: Callable[..., float], chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "precision": chosen.precision,
        "samples_per_s": round(chosen.batch * chosen.steps / middle([turn.wall_s for turn in turns]), 1),
        "core_ms_per_step": round(1e3 * middle([turn.core_s for turn in turns]) / chosen.steps, 1),
        "peak_mb": round(max(turn.peak_mb for turn in turns), 1),
    }


def rows(chosen: argparse.Namespace, structured: bool) -> np.ndarray:
    """One turn's rows [steps * batch, d], noise or mixtures of k of m / 4 atoms; E||x||^2 = d."""
    rng = np.random.default_rng(0)
    n = chosen.steps * chosen.batch
    if not structured:
        return rng.standard_normal((n, chosen.d), dtype=np.float32)
    x_ND, _ = planted(n, chosen.d, chosen.m // 4, chosen.k, seed=0)
    x_ND -= x_ND.mean(0)
    scaled_ND: np.ndarray = x_ND * np.sqrt(chosen.d / np.square(x_ND).sum(1).mean())
    return scaled_ND


def main() -> None:
    """Measure the libraries on each architecture and write the figures; with --worker, be one of them."""
    chosen = _arguments()
    if chosen.worker:
        work(Job(**json.loads(chosen.worker)), chosen.data, chosen.threads)
        return
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for architecture in chosen.architectures:
            libraries = [
                name for name in ARCHITECTURES[_base(architecture)] if name in chosen.libraries and python(name)
            ]
            data = f"{folder}/rows.npy"
            np.save(data, rows(chosen, structured=architecture.endswith("_run")))
            found[architecture] = measure(chosen, architecture, libraries, data)
            for library, figures in found[architecture].items():
                print(architecture, library, *(f"{key}={value}" for key, value in figures.items()), flush=True)
    if chosen.json:
        Path(chosen.json).write_text(json.dumps(found, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--d", type=int, default=512, help="embedding dimension")
    parser.add_argument("--m", type=int, default=8192, help="features")
    parser.add_argument("--k", type=int, default=32, help="active features")
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=3, help="per turn")
    parser.add_argument(
        "--rounds", type=int, default=3, help="turns of every library, after a first that does not count"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--epochs", type=int, default=9, help="turns of relu_l1_run")
    choices = ["relu_l1", *("relu_l1" + kind for kind in KINDS), *(name for name in ARCHITECTURES if name != "relu_l1")]
    parser.add_argument("--architectures", nargs="+", default=choices, choices=choices)
    parser.add_argument("--libraries", nargs="+", default=list(LIBRARIES), choices=list(LIBRARIES))
    parser.add_argument("--parts", action="store_true", help="split a step of ours into its parts (sae_parts.py)")
    parser.add_argument("--data", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
