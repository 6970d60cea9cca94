"""One worker of two is killed while an SAE is trained on an object store, on one node."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from medsae_ray.core.artifacts.artifact import open_artifact, verify
from medsae_ray.core.artifacts.store import Store
from tests.support.outage import SETTINGS, store
from tests.support.small import onnx_encoder, recipe_data, table_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


def test_training_goes_on_from_its_checkpoint_on_the_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed once a checkpoint is there: the same SAE as of an undisturbed run."""
    with store() as door:
        for key, value in {**SETTINGS, "AWS_ENDPOINT_URL": door.url}.items():
            monkeypatch.setenv(key, value)
        _kill_and_compare(tmp_path)


def _kill_and_compare(tmp_path: Path) -> None:
    data = recipe_data(table_dataset(tmp_path, 240), onnx_encoder(tmp_path / "e.onnx"))
    data["what"]["sae"] |= {"epochs": 300, "width": 64, "batch_size": 32}
    data["how"]["train"] = {"workers": 2, "cpus": 0.5, "checkpoint_epochs": 10, "retries": 1}
    data["how"]["cpus"] = 2
    (tmp_path / "recipe.yaml").write_text(json.dumps(data))
    root, weights = Store("s3://archive/training"), {}
    stage = [sys.executable, "-m", "medsae_ray.cli", "stage", "sae", str(tmp_path / "recipe.yaml"), "--root", root.uri]
    for name in ("clean", "killed"):
        run = subprocess.Popen(stage, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if name == "killed":
            _wait_until(lambda run=run: run.poll() is not None or any("/state-" in f for f in _files(root)))
            assert run.poll() is None, f"it ended before its first checkpoint: {run.communicate()[0]}"
            (worker, *_) = [p for p in psutil.Process(run.pid).children(recursive=True) if _trains(p)]
            worker.kill()
        said = run.communicate(timeout=400)[0]
        assert run.returncode == 0, said
        (folder,) = [f for f in root.folders() if f.startswith("sae-")]
        sae = open_artifact(f"{root.uri}/{folder}")
        weights[name] = [f.sha256 for f in sae.record.files if f.name.startswith("weights")]
        assert (sae.record.metrics["resumed_from_epoch"] > 0) == (name == "killed") and verify(sae) == []
        root.delete_folder(folder)
    assert weights["killed"] == weights["clean"]


def _files(root: Store) -> list[str]:
    return [info.path for info in root.listed(recursive=True)]


def _trains(process: psutil.Process) -> bool:
    try:
        return any("RayTrainWorker" in part for part in process.cmdline()[:1])
    except psutil.Error:
        return False


def _wait_until(sign: Callable[[], bool]) -> None:
    until = time.monotonic() + 300
    while not sign() and time.monotonic() < until:
        time.sleep(0.1)
