import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ray.train import ControllerError

from medsae_ray.api import load_sae
from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifact import Artifact, sha256
from medsae_ray.core.storage import Store
from medsae_ray.errors import ArtifactError, RecipeError
from medsae_ray.stages.pipeline import run_stage
from medsae_ray.stages.train import ATTEMPTS, newest_state, to_bytes
from tests.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 240), onnx_encoder(folder / "e.onnx")


def recipe(data: tuple[Path, Path], **how: Any) -> Recipe:
    changed = recipe_data(*data, **how)
    changed["what"]["sae"] |= {"epochs": 40, "width": 64, "batch_size": 32}
    changed["how"]["train"] = {"workers": 2, "cpus": 0.5, "checkpoint_epochs": 5}
    return parse_recipe(changed)


def kill_a_worker_after_a_checkpoint(root: Path, killed: list[int]) -> None:
    """SIGKILL one training process of this test's cluster once a checkpoint exists."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and not list(root.glob("sae-*/_attempts/*/epoch-*/state-*")):
        time.sleep(0.02)
    for process in psutil.Process().children(recursive=True):
        if any("RayTrainWorker" in part for part in process.cmdline()):
            os.kill(process.pid, signal.SIGKILL)
            killed.append(process.pid)
            return


def from_files(wanted: Recipe, folder: Path) -> Recipe:
    """The same, with embeddings that do not come into memory."""
    train = wanted.how.train.model_copy(update={"memory_gb": 0.0, "scratch": str(folder / "scratch")})
    return wanted.model_copy(update={"how": wanted.how.model_copy(update={"train": train})})


def weights(artifact: Artifact) -> str:
    return next(f.sha256 for f in artifact.record.files if f.name.startswith("weights"))


@pytest.mark.timeout(900)
def test_a_killed_training_worker_changes_nothing(ray_cluster: None, data: tuple[Path, Path], tmp_path: Path) -> None:
    """Nor does it that the disturbed run reads its embeddings from files."""
    undisturbed = run_stage(recipe(data), str(tmp_path / "clean"), "sae")
    killed: list[int] = []
    root = tmp_path / "killed"
    killer = threading.Thread(target=kill_a_worker_after_a_checkpoint, args=(root, killed))
    killer.start()
    disturbed = run_stage(from_files(recipe(data), tmp_path), str(root), "sae")
    killer.join()
    assert killed, "no worker was found to kill"
    assert weights(disturbed) == weights(undisturbed)
    assert disturbed.record.metrics["last_epoch"] == undisturbed.record.metrics["last_epoch"]
    assert not list((tmp_path / "scratch").rglob("*.npy"))


ARCHITECTURES: list[dict[str, Any]] = [
    {"architecture": "relu_l1", "l1": 1.0},
    {"architecture": "topk", "k": 3, "init": "data"},
    {"architecture": "batch_topk", "k": 3, "patience": 2},
    {"architecture": "jumprelu", "l0": 0.5},
    {"architecture": "gated", "l1": 1.0},
    {"architecture": "matryoshka", "levels": [8, 16], "k": 3},
    {"architecture": "matryoshka", "levels": [8, 16], "selection": "per_level", "ks": [2, 4]}
    | {"compat": "sail", "normalisation": "l2"},
]


def with_sae(wanted: Recipe, sae: dict[str, Any]) -> Recipe:
    data = wanted.model_dump()
    data["what"]["sae"] = {"width": 16, "epochs": 6, "batch_size": 32} | sae
    return parse_recipe(data)


@pytest.mark.parametrize("sae", ARCHITECTURES, ids=lambda sae: sae.get("compat") or sae["architecture"])
def test_every_architecture_is_trained_stored_and_read(
    sae: dict[str, Any], data: tuple[Path, Path], tmp_path: Path
) -> None:
    wanted = with_sae(recipe(data, engine="loop"), sae)
    made = run_stage(wanted, str(tmp_path), "sae")
    run_stage(wanted, str(tmp_path), "activations")
    loaded = load_sae(made.store.uri)
    x = np.random.default_rng(0).normal(size=(5, made.record.metrics["config"]["d_in"])).astype(np.float32)
    z = loaded.encode(x)
    assert z.shape == (5, 16) and (z >= 0).all() and np.isfinite(loaded.decode(z)).all()
    assert made.record.metrics["config"]["architecture"] == sae["architecture"]
    assert 0 < made.record.metrics["last_epoch"]["l0"] <= 16


def test_two_workers_train_what_one_process_does(ray_cluster: None, data: tuple[Path, Path], tmp_path: Path) -> None:
    """SAIL's code through Ray Train: of all architectures it has the most that ranks must agree on."""
    found = []
    for engine in ("loop", "ray"):
        made = run_stage(with_sae(recipe(data, engine=engine), ARCHITECTURES[-1]), str(tmp_path / engine), "sae")
        found.append(made.record.metrics["last_epoch"]["fvu"])
    assert found[0] == pytest.approx(found[1], rel=5e-3)


def test_a_batch_that_the_patients_cannot_fill_is_refused_before_any_worker_starts(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    run_stage(recipe(data, engine="loop"), str(tmp_path), "embeddings")
    wanted = recipe(data)
    sae = wanted.what.sae.model_copy(update={"batch_size": 100_000})
    wanted = wanted.model_copy(update={"what": wanted.what.model_copy(update={"sae": sae})})
    with pytest.raises(RecipeError, match=r"100000 is above the 1[0-9]{2} training images"):
        run_stage(wanted, str(tmp_path), "sae")


def test_our_own_error_on_a_worker_is_told_as_it_is_and_not_tried_again(
    ray_cluster: None, data: tuple[Path, Path], tmp_path: Path
) -> None:
    made = run_stage(recipe(data, engine="loop"), str(tmp_path / "loop"), "sae")
    state = to_bytes({"fit": {"epoch": 1, "config": {"lr": 0.5}}, "log": []})
    attempt = tmp_path / "ray" / made.name / ATTEMPTS / "attempt-a" / "epoch-000010"
    attempt.mkdir(parents=True)
    (attempt / f"state-{sha256(state)}").write_bytes(state)
    with pytest.raises(ArtifactError, match=r"^the state to resume belongs to other settings") as caught:
        run_stage(recipe(data), str(tmp_path / "ray"), "sae")
    # Ray Train's own end of it is the controller's, not the last of several attempts' workers.
    assert isinstance(caught.value.__context__, ControllerError) and "\n" not in str(caught.value)


def test_an_attempt_starts_from_the_newest_whole_checkpoint(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    assert newest_state(store) is None
    states = {"a/epoch-000010": 10, "b/epoch-000030": 30, "b/epoch-000020": 20}
    for folder, epoch in states.items():
        data = to_bytes({"log": [], "fit": {"epoch": epoch}})
        torn = data[:-1] if epoch == 30 else data
        store.write(f"{folder}/state-{sha256(data)}", torn)
    found = newest_state(store)
    assert found is not None and found["fit"]["epoch"] == 20
