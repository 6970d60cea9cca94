"""Whole runs killed with SIGKILL at random moments. MEDSAE_KILL_TRIALS sets how many (default 1, they take a while)."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medsae_ray.core.artifacts.artifact import open_artifact, verify
from tests.support.small import onnx_encoder, recipe_data, table_dataset

TRIALS = int(os.environ.get("MEDSAE_KILL_TRIALS", "1"))


def command(recipe: Path, root: Path) -> list[str]:
    return [sys.executable, "-m", "medsae_ray.cli", "run", str(recipe), "--root", str(root)]


def start(recipe: Path, root: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(recipe, root), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def finish(recipe: Path, root: Path) -> None:
    process = start(recipe, root)
    _, error = process.communicate(timeout=400)
    assert process.returncode == 0, error.decode()


def recorded(root: Path) -> dict[str, dict[str, str]]:
    """Artifact -> file -> checksum, of every file that a record names; each is checked on the way."""
    found = {}
    for folder in sorted(root.glob("*-*/")):
        artifact = open_artifact(str(folder))
        assert verify(artifact) == []
        found[artifact.name] = {f.name: f.sha256 for f in artifact.record.files if not f.name.startswith("log-")}
    return found


def parts(root: Path) -> dict[Path, tuple[int, int]]:
    return {p: (p.stat().st_ino, p.stat().st_mtime_ns) for p in root.glob("*-*/part-*.parquet")}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    data = recipe_data(table_dataset(folder, 240), onnx_encoder(folder / "e.onnx"))
    (folder / "recipe.yaml").write_text(json.dumps(data))
    data["how"]["engine"] = "loop"
    (folder / "loop.yaml").write_text(json.dumps(data))
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """What a clean run in a plain loop leaves: the same as one on Ray."""
    root = tmp_path_factory.mktemp("clean")
    finish(recipe.with_name("loop.yaml"), root)
    return recorded(root)


def kill(process: subprocess.Popen[bytes], root: Path, made: int, more: float) -> None:
    """SIGKILL, `more` seconds after there are `made` parts; the cluster ends with its driver."""
    while process.poll() is None and len(parts(root)) < made:
        time.sleep(0.02)
    time.sleep(more)
    process.send_signal(signal.SIGKILL)
    process.wait()
    time.sleep(3)  # a worker may still be writing


@pytest.mark.timeout(7200)
def test_a_killed_run_goes_on_where_it_was(
    recipe: Path, undisturbed: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    moments, last = random.Random(7), sum(f.startswith("part-") for files in undisturbed.values() for f in files)
    for trial in range(TRIALS):
        root = tmp_path / str(trial)
        made, more = moments.randrange(last), moments.uniform(0, 3)
        kill(start(recipe, root), root, made, more)
        before = parts(root)
        finish(recipe, root)
        after = parts(root)
        assert {p: after[p] for p in before} == before, f"trial {trial}: a finished part was written again"
        assert recorded(root) == undisturbed, f"trial {trial}, killed with {len(before)} parts"
        print(
            f"trial {trial}: killed {more:.1f} s after part {made} with {len(before)} of {last} parts, same artifacts"
        )


def test_two_runs_on_one_root_do_not_disturb_each_other(
    recipe: Path, undisturbed: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    both = [start(recipe.with_name("loop.yaml"), tmp_path) for _ in range(2)]
    errors = [process.communicate(timeout=500)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert recorded(tmp_path) == undisturbed
