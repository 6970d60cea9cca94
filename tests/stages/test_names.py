"""Naming and detection on the shared engine: every answer asked once, whatever is killed."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from medsae_ray.config import find_recipe
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.ledger import Ledger, answers_schema, replies
from medsae_ray.engine.client import ServeEngine

TRIALS = int(os.environ.get("MEDSAE_KILL_TRIALS", "1"))
TABLES = ("samples", "names", "answers", "label_answers", "scores", "atlas")


def recipe(**how: Any) -> dict[str, Any]:
    """The packaged phantom recipe, made small."""
    whole = yaml.safe_load(find_recipe("phantom").read_text())
    whole["what"]["dataset"]["patients"] = 160
    whole["what"]["split"] = {"sae": 0.4, "naming": 0.3, "detection": 0.3}
    whole["what"]["sae"] |= {"epochs": 40, "levels": [10, 12], "width": 12, "batch_size": 64}
    whole["what"]["naming"]["detection"] = {"positives": 10, "negatives": 10, "support": 10, "pool": 30}
    whole["how"] |= how
    return whole


def medsae(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "medsae_ray.cli", *arguments]


def run(root: Path, **how: Any) -> "subprocess.Popen[bytes]":
    """The command, in a process of its own that joins this cluster and so shares its engine."""
    file = root.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe(address=ray.get_runtime_context().gcs_address, **how)))
    return subprocess.Popen(
        medsae("run", str(file), "--root", str(root)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )


def finish(root: Path) -> dict[str, Any]:
    process = run(root)
    _, said = process.communicate(timeout=400)
    assert process.returncode == 0, said.decode()[-2000:]
    summary: dict[str, Any] = json.loads((root / "summary.json").read_text())
    return summary


def tables(root: Path) -> dict[str, list[str]]:
    """Checksums of the tables' parts; equal rows give equal bytes, and NaN is equal to itself."""
    found = {name: open_artifact(str(next(root.glob(f"{name}-[0-9a-f]*")))) for name in TABLES}
    return {name: [part.sha256 for part in artifact.parts] for name, artifact in found.items()}


def ledger_rows(root: Path) -> tuple[list[str], int]:
    """Addresses of all finished answers, and how many were answered twice."""
    kinds = {"names": replies(), "answers": answers_schema()}
    loaded = [Ledger(Store(str(folder)), kinds[folder.name.split("-")[0]]).load() for folder in root.glob("ledger/*-*")]
    return [a for found in loaded for a in found.answered()], sum(found.duplicates for found in loaded)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with everything up to the activations, made in a plain loop."""
    root = tmp_path_factory.mktemp("prepared") / "root"
    file = root.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(recipe(engine="loop")))
    command = medsae("stage", "activations", str(file), "--root", str(root))
    subprocess.run(command, check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True)
    return root


@pytest.fixture(scope="module")
def undisturbed(vlm_engine: ServeEngine, prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("undisturbed") / "root"
    shutil.copytree(prepared, root)
    finish(root)
    return root


def test_a_run_says_what_was_named_and_what_it_cost(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    names, vlm = summary["names"], summary["vlm"]
    without = ("abstained", "insufficient_support", "failed", "dead")
    assert names["features"] == 12 == names["named"] + sum(names[kind] for kind in without) and names["failed"] == 0
    assert names["named"] == sum(names[kind] for kind in ("verified", "rejected", "untested"))
    assert names["sight"] == "seen"
    assert vlm["requests"] > 100 and 0 < vlm["cached_tokens"] < vlm["prompt_tokens"]
    stages = {stage["name"]: stage for stage in summary["stages"]}
    assert stages["features"]["start"] < stages["answers"]["end"]
    assert stages["names"]["start"] < stages["features"]["end"]
    assert summary["overlap"]["makespan_s"] < summary["overlap"]["sum_s"]
    assert "ceiling" in summary["findings"]["Cardiomegaly"]


def test_the_model_sees_the_easy_findings(undisturbed: Path) -> None:
    summary = json.loads((undisturbed / "summary.json").read_text())
    ceilings = {label: found["ceiling"] for label, found in summary["findings"].items()}
    assert ceilings["Cardiomegaly"] > 0.8 and ceilings["Pleural Effusion"] > 0.8


def test_answers_in_the_ledger_are_not_asked_again(undisturbed: Path, prepared: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(prepared, root)
    shutil.copytree(undisturbed / "ledger", root / "ledger")
    assert finish(root)["vlm"]["requests"] == 0
    assert tables(root) == tables(undisturbed)


@pytest.mark.timeout(100 + 200 * TRIALS)
@pytest.mark.parametrize("trial", range(TRIALS))
def test_a_killed_run_asks_nothing_twice_and_ends_the_same(
    undisturbed: Path, prepared: Path, tmp_path: Path, trial: int
) -> None:
    root = tmp_path / "root"
    shutil.copytree(prepared, root)
    process, chance = run(root), random.Random(trial)
    deadline = time.monotonic() + 120
    while not list(root.glob("ledger/*/rows-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(chance.uniform(0, 4))
    process.send_signal(signal.SIGKILL)
    process.communicate()
    before, _ = ledger_rows(root)
    assert before, "it was killed before its first answer"
    finish(root)
    after, twice = ledger_rows(root)
    assert set(before) <= set(after) and twice == 0
    assert tables(root) == tables(undisturbed)
