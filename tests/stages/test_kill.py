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

from medsae_ray.core.artifact import open_artifact, verify
from tests.small import onnx_encoder, recipe_data, table_dataset

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
    for folder in sorted(root.glob("*-*")):
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
    return folder / "recipe.yaml"


@pytest.fixture(scope="module")
def undisturbed(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, dict[str, str]], float]:
    """What a clean run leaves, and the seconds it took."""
    root, clock = tmp_path_factory.mktemp("clean"), time.monotonic()
    finish(recipe, root)
    return recorded(root), time.monotonic() - clock


@pytest.mark.timeout(7200)
def test_a_killed_run_goes_on_where_it_was(
    recipe: Path, undisturbed: tuple[dict[str, dict[str, str]], float], tmp_path: Path
) -> None:
    expected, seconds = undisturbed
    moments = random.Random(7)
    for trial in range(TRIALS):
        root = tmp_path / str(trial)
        moment = seconds * moments.uniform(0.1, 1.0)
        process = start(recipe, root)
        try:
            process.wait(timeout=moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        time.sleep(3)  # the cluster ends with its driver; a worker may still be writing
        before = parts(root)
        finish(recipe, root)
        after = parts(root)
        assert {p: after[p] for p in before} == before, f"trial {trial}: a finished part was written again"
        assert recorded(root) == expected, f"trial {trial}, killed after {moment:.1f} s"
        print(f"trial {trial}: killed after {moment:.1f} of {seconds:.1f} s with {len(before)} parts, same artifacts")


def test_two_runs_on_one_root_do_not_disturb_each_other(
    recipe: Path, undisturbed: tuple[dict[str, dict[str, str]], float], tmp_path: Path
) -> None:
    both = [start(recipe, tmp_path) for _ in range(2)]
    errors = [process.communicate(timeout=500)[1].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert recorded(tmp_path) == undisturbed[0]
