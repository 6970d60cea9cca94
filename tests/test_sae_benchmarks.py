"""The SAE benchmarks run without the other libraries, on any rows, and write what they say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]


def run(script: str, folder: Path, *arguments: str) -> dict[str, Any]:
    call = [sys.executable, str(ROOT / "benchmarks" / script), "--json", str(folder / "out.json")]
    if script != "sae_sweep.py":
        call += ["--libraries", "ours"]
    done = subprocess.run([*call, *arguments], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "out.json").read_text())
    return found


def test_throughput_times_what_is_asked_for(tmp_path: Path) -> None:
    small = ("--d", "16", "--m", "64", "--k", "4", "--batch", "64", "--rounds", "1", "--threads", "1")
    asked = ("relu_l1_sparse", "matryoshka")
    found = run("sae_throughput.py", tmp_path, *small, "--parts", "--architectures", *asked)
    assert tuple(found) == asked
    for libraries in found.values():
        figures = libraries["ours"]
        assert figures["precision"] == "float32"
        assert figures["samples_per_s"] > 0 and figures["core_ms_per_step"] > 0 and figures["peak_mb"] >= 0
    assert "step" not in found["relu_l1_sparse"]["ours"]
    step = found["matryoshka"]["ours"]["step"]
    assert list(step["ms"]) == ["rows", "encode", "selection", "decode", "losses", "backward", "optimiser"]
    assert step["gflop"] == pytest.approx(2 * 65 * 16 * 64 / 1e9, abs=1e-6)  # the encoder applied to batch and b_dec
    assert all(ms > 0 for ms in step["ms"].values()) and step["fraction_of_ceiling"] > 0


def test_quality_finds_planted_atoms_and_searches_for_the_sparsity_asked_for(tmp_path: Path) -> None:
    small = ("--n", "4000", "--d", "32", "--atoms", "32", "--m", "48", "--k", "2", "--batch", "100", "--threads", "1")
    longer = ("--epochs", "20", "--lr", "0.01", "--trials", "3")
    found = run("sae_quality.py", tmp_path, *small, *longer, "--architectures", "relu_l1", "topk")
    figures = found["topk"]["ours"]
    assert figures["recovered"] > 0.8 and figures["l0"] <= 2 and 0 < figures["fvu"] < 0.3 and figures["dead"] < 0.5
    assert found["relu_l1"]["ours"]["l0"] == pytest.approx(2, rel=0.5)


def test_quality_takes_rows_of_ones_own(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((300, 8)))
    small = ("--data", str(tmp_path / "x.npy"), "--m", "16", "--k", "2", "--batch", "50", "--epochs", "2")
    found = run("sae_quality.py", tmp_path, *small, "--threads", "1", "--architectures", "batch_topk", "jumprelu")
    assert all(libraries["ours"]["recovered"] is None for libraries in found.values())
    np.save(tmp_path / "x.npy", np.full((300, 8), np.nan))
    with pytest.raises(AssertionError, match="a finite"):
        run("sae_quality.py", tmp_path, *small)


def test_a_sweep_is_held_against_its_saes_one_by_one(tmp_path: Path) -> None:
    small = ("--n", "300", "--d", "16", "--batch", "64", "--threads", "1", "--engine", "loop")
    found = run("sae_sweep.py", tmp_path, *small, "--blocks", "14", "--only", "1")
    assert found["saes"] == found["equal"] == 2 and found["largest_difference"] == 0
    assert found["ratio"] == pytest.approx(found["sweep_s"] / found["one_by_one_s"], rel=0.3)
    assert 0 < found["training_in_sweep_s"] <= found["sweep_s"]
