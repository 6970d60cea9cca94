"""The SAE benchmarks run without the other libraries, on any rows, and write what they say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
ALL = {"relu_l1", "topk", "batch_topk", "matryoshka", "jumprelu", "gated"}


def run(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    call = [
        sys.executable,
        str(ROOT / "benchmarks" / script),
        "--json",
        str(folder / "out.json"),
        "--libraries",
        "ours",
    ]
    done = subprocess.run([*call, *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return found


def test_throughput_times_every_architecture(tmp_path: Path) -> None:
    small = ("--d", "16", "--m", "64", "--k", "4", "--batch", "64", "--rounds", "1", "--threads", "1")
    found = run("sae_throughput.py", tmp_path, *small)
    assert found.keys() == ALL | {"relu_l1_sparse"}
    for libraries in found.values():
        figures = libraries["ours"]
        assert figures["precision"] == "float32"
        assert figures["samples_per_s"] > 0 and figures["core_ms_per_step"] > 0 and figures["peak_mb"] >= 0


def test_quality_finds_planted_atoms_and_meets_the_sparsity_asked_for(tmp_path: Path) -> None:
    small = ("--n", "4000", "--d", "32", "--atoms", "32", "--m", "48", "--k", "3", "--batch", "100", "--threads", "1")
    found = run("sae_quality.py", tmp_path, *small, "--epochs", "30", "--architectures", "relu_l1", "topk")
    assert found["topk"]["ours"]["recovered"] > 0.8 and found["topk"]["ours"]["l0"] <= 3
    assert found["relu_l1"]["ours"]["l0"] == pytest.approx(3, rel=0.2)
    for libraries in found.values():
        assert 0 < libraries["ours"]["fvu"] < 0.3 and 0 <= libraries["ours"]["dead"] < 0.5


def test_quality_takes_rows_of_ones_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 8)))
    small = ("--data", str(tmp_path / "x.npy"), "--m", "16", "--k", "2", "--batch", "50", "--epochs", "2")
    found = run("sae_quality.py", tmp_path, *small, "--threads", "1", "--architectures", "batch_topk", "jumprelu")
    assert all(libraries["ours"]["recovered"] is None for libraries in found.values())
    np.save(tmp_path / "x.npy", np.full((300, 8), np.nan))
    with pytest.raises(AssertionError, match="a finite"):
        run("sae_quality.py", tmp_path, *small)
