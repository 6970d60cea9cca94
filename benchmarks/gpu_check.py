"""What has to be checked and measured on a GPU, section by section, as one dated page.

    make test-gpu                        # with an environment of its own in .gpu
    python benchmarks/gpu_check.py       # in any environment; on a box with torch, numpy, pyarrow, safetensors,
                                         # transformers and pillow alone the sections of SAEs and encoders run

Each section is a process of its own with a time limit. It ran, failed, or could not be checked, with the reason: a
package that is missing, too few GPUs. The page goes to benchmarks/gpu/DATE-DEVICE/README.md, its rows to result.json
beside it. The status is 1 if a section failed. Without a GPU nothing is run or written, and the status is 0.
"""

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from gpu_rows import REHEARSED, NotChecked

ROOT = Path(__file__).resolve().parents[1]
CORE = ("torch", "numpy", "pyarrow", "safetensors")
IMAGES = (*CORE, "transformers", "PIL")
CLUSTER = (*IMAGES, "pydantic", "ray")
RAN, FAILED, NOT_CHECKED = "ran", "failed", "could not be checked"
NO_GPU = 3
"""The status of --look without a GPU."""


class Section(NamedTuple):
    """A function of a module beside this one, and what it needs."""

    module: str
    function: str
    question: str
    needs: tuple[str, ...]
    gpus: int = 1
    minutes: int = 10


SECTIONS = (
    Section("gpu_saes", "kernels", "Do the CUDA kernels of training give the CPU's numbers?", CORE),
    Section("gpu_saes", "training", "Does each SAE train on the GPU as on the CPU, and resume?", CORE),
    Section("gpu_saes", "waits", "Does a training step wait for the GPU?", CORE),
    Section("gpu_saes", "ranks", "Do two GPUs train what one trains (nccl)?", CORE, gpus=2),
    Section("gpu_encoders", "cosines", "Does each encoder keep its cosine on the GPU?", IMAGES),
    Section("gpu_encoders", "onnx", "Is ONNX Runtime's CUDA provider in use?", (*IMAGES, "onnx", "onnxruntime")),
    Section("gpu_encoders", "marked", "Do the tests marked gpu pass?", (*CLUSTER, "pytest", "hypothesis"), minutes=20),
    Section("gpu_engine", "p_yes", "Does vLLM on the GPU give transformers' p(yes)?", (*CLUSTER, "vllm"), minutes=20),
    Section("gpu_engine", "killed", "Is a killed replica's memory free?", (*CLUSTER, "vllm", "psutil"), minutes=20),
    Section("gpu_engine", "sweep", "Does a sweep on GPUs train what it trains on CPUs?", (*CLUSTER, "onnx")),
    Section("gpu_saes", "throughput", "How fast does each SAE train, beside a bfloat16 product?", CORE, minutes=60),
    Section("gpu_encoders", "images_per_s", "How many images does each encoder embed per second?", IMAGES, minutes=30),
    Section("gpu_engine", "images_through_ray", "How many images per second go through Ray Data?", CLUSTER, minutes=20),
    Section("gpu_engine", "front_ends", "How many questions are answered?", (*CLUSTER, "vllm"), minutes=30),
)


class Outcome(NamedTuple):
    """What became of a section."""

    section: Section
    status: str
    why: str
    rows: list[dict[str, Any]]
    seconds: float


def gpus() -> list[str]:
    """Return each GPU's name, memory and driver, as nvidia-smi states them; none where it is missing or fails."""
    call = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    if shutil.which(call[0]) is None:
        return []
    try:
        said = subprocess.run(call, capture_output=True, text=True, timeout=30, check=True).stdout
    except (subprocess.SubprocessError, OSError):
        return []
    return [line.strip() for line in said.splitlines() if line.strip()]


def hindrance(section: Section, found: int) -> str:
    """Return why a section cannot run here, or nothing."""
    if found < section.gpus:
        return f"{section.gpus} GPUs are needed, {found} found" if found else "no GPU (nvidia-smi names none)"
    missing = [name for name in section.needs if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def run(section: Section, found: int) -> Outcome:
    """Run a section in a process group of its own, which ends with it."""
    if why := hindrance(section, found):
        return Outcome(section, NOT_CHECKED, why, [], 0.0)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.json"
        own = {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0", "HF_HUB_OFFLINE": "1"}
        call = [sys.executable, __file__, "--section", section.function, "--out", str(out)]
        with (Path(folder) / "log").open("w+") as log:
            child = subprocess.Popen(
                call, stdout=log, stderr=subprocess.STDOUT, env=os.environ | own, start_new_session=True
            )
            late = _ended(child, 60 * section.minutes)
            log.seek(0)
            said = log.read()
        seconds = time.monotonic() - started
        if late or not out.exists():
            why = f"not done after {section.minutes} minutes" if late else f"its process ended ({child.returncode})"
            return Outcome(section, FAILED, f"{why}: {_tail(said)}", [], seconds)
        return Outcome(section, **json.loads(out.read_text()), seconds=seconds)


def _ended(child: subprocess.Popen[Any], seconds: float) -> bool:
    """Wait for a process, and end its whole group; True if it was late."""
    late = False
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    return late


def _tail(text: str) -> str:
    return " / ".join(line.strip() for line in text.strip().splitlines()[-6:])[-1500:]


def work(section: Section, out: Path) -> None:
    """Run a section in this process, and write its status and rows."""
    sys.path.insert(0, str(ROOT))
    rows: list[Any] = []
    try:
        rows = getattr(importlib.import_module(section.module), section.function)()
        status, why = (RAN, "") if all(row.ok for row in rows) else (FAILED, "a bound does not hold")
    except NotChecked as reason:
        status, why = NOT_CHECKED, str(reason)
    except BaseException as error:
        traceback.print_exc()
        status, why = FAILED, f"{type(error).__name__}: {str(error)[:600]}"
    out.write_text(json.dumps({"status": status, "why": why, "rows": [row._asdict() for row in rows]}))


def page(outcomes: list[Outcome], devices: list[str], commit: str) -> str:
    """Write the page in Markdown."""
    count = {status: sum(one.status == status for one in outcomes) for status in (RAN, FAILED, NOT_CHECKED)}
    summary = ", ".join(f"{number} {status}" for status, number in count.items())
    title = "A rehearsal of the checks for a GPU, on a CPU" if REHEARSED else "Checks and measurements on a GPU"
    lines = [f"# {title}, {_today()}", "", "| | |", "|---|---|"]
    lines += [f"| command | `{_command()}` |", f"| commit | {commit} |", f"| machine | {_machine(devices)} |"]
    lines += [f"| packages | {_packages()} |", f"| sections | {summary} |", ""]
    for one in outcomes:
        lines += [f"## {one.section.question}", f"`{one.section.function}` {one.status}, {one.seconds:.0f} s."]
        lines += [f"Reason: {one.why}", ""] if one.why else [""]
        if one.rows:
            lines += ["| what | found | wanted |", "|---|---|---|"]
            for row in one.rows:
                found = row["found"] if row["ok"] else f"**{row['found']}**"
                lines.append(f"| {row['what']} | {found} | {row['wanted']} |")
            lines.append("")
    return "\n".join(lines)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()


def _command() -> str:
    return " ".join(["python benchmarks/gpu_check.py", *sys.argv[1:]])


def _machine(devices: list[str]) -> str:
    return f"{'; '.join(devices)}; {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


def _packages() -> str:
    """Return the versions of what is installed of the packages that matter."""
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for name in ("torch", "transformers", "ray", "vllm", "onnxruntime-gpu", "onnxruntime"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def _commit() -> str:
    call = ["git", "-C", str(ROOT), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (subprocess.SubprocessError, OSError):
        return "unknown"


def folder(devices: list[str]) -> Path:
    """Return the folder of today's page for these devices."""
    name = re.sub(r"[^a-z0-9]+", "-", devices[0].split(",")[0].lower()).strip("-")
    return ROOT / "benchmarks" / "gpu" / f"{_today()}-{name}"


def main() -> int:
    """Look for a GPU, run the sections, and write the page."""
    chosen = _arguments()
    by_name = {section.function: section for section in SECTIONS}
    if chosen.section:
        work(by_name[chosen.section], chosen.out)
        return 0
    devices = ["rehearsed on the CPU", "as if there were two"] if REHEARSED else gpus()
    if not devices:
        for section in SECTIONS:
            print(f"{section.function}: {NOT_CHECKED}: {hindrance(section, 0)}. {section.question}")
        return NO_GPU if chosen.look else 0
    if chosen.look:
        print("\n".join(devices))
        return 0
    outcomes = []
    for section in SECTIONS:
        if not chosen.only or section.function in chosen.only:
            outcomes.append(run(section, len(devices)))
            last = outcomes[-1]
            print(f"{section.function}: {last.status} ({last.seconds:.0f} s) {last.why}", flush=True)
    where: Path = chosen.folder or folder(devices)
    where.mkdir(parents=True, exist_ok=True)
    (where / "README.md").write_text(page(outcomes, devices, _commit()))
    stored = [one._asdict() | {"section": one.section.function} for one in outcomes]
    (where / "result.json").write_text(json.dumps(stored, indent=1))
    print(f"written: {where / 'README.md'}")
    return int(any(one.status == FAILED for one in outcomes))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [section.function for section in SECTIONS]
    parser.add_argument("--look", action="store_true", help="name the GPUs and run nothing; status 3 if there is none")
    parser.add_argument("--only", nargs="+", choices=names, help="these sections alone")
    parser.add_argument("--folder", type=Path, help="where the page goes")
    parser.add_argument("--section", choices=names, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
