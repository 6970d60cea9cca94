"""`make test-gpu` and its script on a machine without a GPU, and with one that is only announced."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gpu_check
import pytest
from gpu_check import FAILED, NOT_CHECKED, RAN, SECTIONS, Section, hindrance, run

ROOT = Path(__file__).resolve().parents[1]
BENCHMARKS = ROOT / "benchmarks"
KERNELS = next(section for section in SECTIONS if section.function == "kernels")


def announced(folder: Path, script: str) -> dict[str, str]:
    """The environment of a machine whose nvidia-smi does what the script says."""
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def check(env: dict[str, str], *arguments: str) -> tuple[int, str]:
    call = [sys.executable, str(BENCHMARKS / "gpu_check.py"), *arguments]
    done = subprocess.run(call, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_without_a_gpu_make_says_what_it_could_not_check_and_changes_nothing(tmp_path: Path) -> None:
    before, started = {*ROOT.iterdir(), *BENCHMARKS.iterdir()}, time.monotonic()
    call = ["make", "--no-print-directory", "test-gpu", f"PYTHON={sys.executable}"]
    env = announced(tmp_path, "exit 9")
    done = subprocess.run(call, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == [section.function for section in SECTIONS]
    assert all(f"{NOT_CHECKED}: no GPU" in line for line in lines)
    new = {*ROOT.iterdir(), *BENCHMARKS.iterdir()} - before
    assert {path.name for path in new} <= {"__pycache__"} and time.monotonic() - started < 60


def test_what_hinders_a_section_is_named() -> None:
    two = Section("gpu_saes", "ranks", "?", ("torch",), gpus=2)
    assert hindrance(two, 1) == "2 GPUs are needed, 1 found" and hindrance(two, 2) == ""
    missing = two._replace(needs=("torch", "no_such_package", "nor_this"))
    assert hindrance(missing, 2) == "not installed: no_such_package, nor_this"


def test_a_gpu_that_torch_does_not_find_is_a_reason_and_the_page_says_so(tmp_path: Path) -> None:
    env = announced(tmp_path, "echo 'NVIDIA H200, 143771 MiB, 570.1'") | {"CUDA_VISIBLE_DEVICES": ""}
    where = tmp_path / "page"
    status, said = check(env, "--only", "kernels", "ranks", "--folder", str(where))
    assert status == 0 and f"kernels: {NOT_CHECKED}" in said, said
    page = (where / "README.md").read_text()
    assert "NVIDIA H200, 143771 MiB, 570.1; " in page and "0 ran, 0 failed, 2 could not be checked" in page
    assert "finds no GPU: a build for CPUs" in page and "2 GPUs are needed, 1 found" in page
    assert {one["section"]: one["status"] for one in json.loads((where / "result.json").read_text())} == {
        "kernels": NOT_CHECKED,
        "ranks": NOT_CHECKED,
    }


def test_a_rehearsal_on_the_cpu_fills_the_page(tmp_path: Path) -> None:
    env = os.environ | {"GPU_CHECK_DEVICE": "cpu"}
    status, said = check(env, "--only", "kernels", "--folder", str(tmp_path))
    assert status == 0, said
    page = (tmp_path / "README.md").read_text()
    assert "`kernels` ran" in page and "| fused Adam | 0 | at most 1e-05 |" in page


def test_a_bound_that_does_not_hold_and_an_error_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "gpu_trial.py").write_text(
        "from gpu_rows import at_most, equal\n"
        "def far(): return [at_most('apart', float('nan'), 1.0)]\n"
        "def near(): return [at_most('apart', 0.5, 1.0), equal('same', 1, 1)]\n"
        "def broken(): raise ValueError('why')\n"
    )
    found: dict[str, Any] = {}
    for name in ("far", "near", "broken"):
        out = tmp_path / "out.json"
        gpu_check.work(Section("gpu_trial", name, "?", ()), out)
        found[name] = json.loads(out.read_text())
    assert {name: one["status"] for name, one in found.items()} == {"far": FAILED, "near": RAN, "broken": FAILED}
    assert found["far"]["rows"][0]["found"] == "nan" and found["broken"]["why"] == "ValueError: why"


def test_a_section_that_takes_too_long_is_ended_and_fails() -> None:
    late = run(KERNELS._replace(minutes=0), 1)
    assert late.status == FAILED and "not done after 0 minutes" in late.why


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_check.gpus(), reason="nvidia-smi names no GPU")
@pytest.mark.parametrize("section", SECTIONS[:6], ids=lambda section: section.function)
def test_a_section_runs_on_the_gpu(section: Section) -> None:
    outcome = run(section, len(gpu_check.gpus()))
    if outcome.status == NOT_CHECKED:
        pytest.skip(outcome.why)
    assert outcome.status == RAN, (outcome.why, outcome.rows)
