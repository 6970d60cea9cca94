"""The memory of a command and of all processes below it, about every half second, and what each stage of a root took.

Memory is the sum of the processes' proportional sets, with pages of shared memory counted once: those of Ray's object
store by the file that holds them, also where no process has touched them.
"""

import json
import os
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from medsae_ray.core.artifacts.artifact import RECORD

EVERY_S, REST = 0.5, 9
"""The seconds between samples; at least so many times as long as a sample took, as the system counts each page."""
SAMPLES = "samples"
GIB = 2**30


class Sample(NamedTuple):
    """The memory of all processes at one time, in bytes."""

    time: float
    total: int
    driver: int
    workers: int
    """Ray's workers: tasks and actors."""
    store: int
    """Ray's object store."""
    cpu: float
    """The CPU seconds of all processes that still run."""


SHOWN = Sample._fields[1:]


def watch(command: Sequence[str], folder: Path, environment: dict[str, str]) -> float:
    """Run a command to its end, write its samples into `folder`, and return its seconds. RuntimeError if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.time()
    with (folder / f"{SAMPLES}-{start:.0f}.jsonl").open("w") as file, subprocess.Popen(command, env=environment) as run:
        while run.poll() is None:
            clock = time.perf_counter()
            file.write(json.dumps(sample(run.pid)) + "\n")
            file.flush()
            time.sleep(max(EVERY_S, REST * (time.perf_counter() - clock)))
    if run.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {run.returncode}")
    return time.time() - start


def sample(pid: int) -> Sample:
    """Measure the process `pid` and all below it."""
    found = dict.fromkeys(("driver", "workers", "other", "shared"), 0)
    store, cpu = 0, 0.0
    with suppress(psutil.NoSuchProcess):
        driver = psutil.Process(pid)
        for process in (driver, *driver.children(recursive=True)):
            with suppress(OSError, psutil.Error):
                sizes, times = _rollup(process.pid), process.cpu_times()
                cpu += times.user + times.system
                name = " ".join(process.cmdline()[:1])
                kind = "driver" if process.pid == pid else "workers" if name.startswith("ray::") else "other"
                found[kind] += sizes["Pss_Anon"] + sizes["Pss_File"]
                found["shared"] += sizes["Pss_Shmem"]
                store = max(store, _object_store(process.pid) if process.name() == "raylet" else 0)
    store = max(store, found.pop("shared"))
    return Sample(time.time(), sum(found.values()) + store, found["driver"], found["workers"], store, cpu)


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    cells = (line.split() for line in lines)
    return {cell[0].rstrip(":"): int(cell[1]) * 1024 for cell in cells if cell[-1] == "kB"}


def _object_store(pid: int) -> int:
    """Return the bytes that the raylet's files in shared memory hold."""
    held = {}
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            if os.readlink(descriptor).startswith("/dev/shm/"):
                about = os.stat(descriptor)
                held[about.st_ino] = about.st_blocks * 512
    return sum(held.values())


def stages(root: Path, folder: Path) -> list[dict[str, Any]]:
    """Return each stage of a root in the order of its start: seconds, rows, bytes, and the peaks of its samples, which
    are those until the next stage begins. A stage that was planted, or is over in half a second, has none."""
    samples = [
        Sample(*json.loads(line))
        for file in sorted(folder.glob(f"{SAMPLES}-*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    records = [json.loads((path / RECORD).read_text()) for path in root.iterdir() if (path / RECORD).exists()]
    records.sort(key=lambda one: str(one["run"]["start"]))
    starts = [_time(record, "start") for record in records]
    last = max((_time(record, "end") for record in records), default=0.0)
    rows, ends = [], [*starts, last][1:]
    for record, start, end in zip(records, starts, ends, strict=True):
        own = [one for one in samples if start <= one.time < end]
        watched = any(one.time <= _time(record, "end") for one in own)
        rows.append(_of_record(root, record) | _peaks(own if watched else []))
    after = [one for one in samples if one.time >= last]
    if after:
        seconds = after[-1].time - after[0].time
        rows.append({"stage": "after the last stage", "seconds": seconds, "rows": None, **_peaks(after)})
    return rows


def _time(record: dict[str, Any], key: str) -> float:
    return datetime.fromisoformat(record["run"][key]).timestamp()


def _of_record(root: Path, record: dict[str, Any]) -> dict[str, Any]:
    size = sum(file.stat().st_size for file in (root / record["name"]).rglob("*") if file.is_file())
    return {"stage": record["stage"], "seconds": record["run"]["seconds"], "rows": record["rows"], "bytes": size}


def _peaks(samples: Sequence[Sample]) -> dict[str, float | None]:
    """Return the greatest total in GiB, its parts at that time, and the CPU seconds; None for an unwatched stage."""
    if not samples:
        return dict.fromkeys(SHOWN)
    most = max(samples, key=lambda one: one.total)
    cpu = sum(max(after.cpu - before.cpu, 0.0) for before, after in pairwise(samples))  # less where a process ends
    return {name: getattr(most, name) / GIB for name in SHOWN[:-1]} | {"cpu": cpu}


def table(rows: Iterable[dict[str, Any]]) -> str:
    """Format stages as rows of Markdown."""
    heads = ("stage", "s", "peak GiB", "of it driver", "workers", "object store", "CPU s", "rows", "MB on disk")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        sizes = " | ".join("" if row[key] is None else f"{row[key]:,.2f}" for key in SHOWN)
        count = "" if row["rows"] is None else f"{row['rows']:,}"
        disk = f"{row['bytes'] / 1e6:,.1f}" if "bytes" in row else ""
        lines.append(f"| {row['stage']} | {row['seconds']:,.1f} | {sizes} | {count} | {disk} |")
    return "\n".join(lines)
