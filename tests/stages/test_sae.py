import contextlib
import copy
import os
import signal
import subprocess
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from ray.train import ControllerError

from medsae_ray.api import load_sae
from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact, sha256
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.errors import ArtifactError, RecipeError
from medsae_ray.pipeline import run_stage
from medsae_ray.stages.sae import ATTEMPTS, sae_warnings
from medsae_ray.stages.sae_checkpoints import Pace, newest_state, to_bytes
from tests.support.small import onnx_encoder, recipe_data, table_dataset


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


def test_what_is_chosen_names_the_artifact_that_giving_it_names(data: tuple[Path, Path], tmp_path: Path) -> None:
    """Also from a sweep's winner, whose settings may leave some open."""
    open_recipe = recipe(data, engine="loop").model_dump()
    open_recipe["what"]["sae"] = {"architecture": "batch_topk", "seed": 3}
    made = run_stage(parse_recipe(open_recipe), str(tmp_path), "sae")
    metrics = made.record.metrics
    chosen = {name: metrics["config"][name] for name in ("width", "k", "epochs", "batch_size", "lr")}
    assert metrics["training_rows"] > chosen["batch_size"] and made.record.what.items() >= chosen.items()
    explicit = copy.deepcopy(open_recipe)
    explicit["what"]["sae"] |= chosen
    assert run_stage(parse_recipe(explicit), str(tmp_path), "sae").record == made.record
    open_recipe["what"]["sweep"] = {"grid": {"width": [None, chosen["width"], 8]}}
    swept = run_stage(parse_recipe(open_recipe), str(tmp_path), "sweep")
    assert made.record.name in swept.table()["artifact"].to_pylist() and swept.record.metrics["members"] == 3


def test_forty_images_need_no_settings_and_too_many_features_are_warned_of(tmp_path: Path) -> None:
    data = recipe_data(table_dataset(tmp_path / "data", 40), onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    data["what"]["sae"] = {}
    made = run_stage(parse_recipe(data), str(tmp_path), "sae")
    metrics = made.record.metrics
    assert metrics["config"]["width"] <= 16 and metrics["last_epoch"]["dead_share"] < 0.5
    assert metrics["last_epoch"]["train_l0"] == pytest.approx(metrics["config"]["k"], rel=0.05)
    data["what"]["sae"] = {"width": 400, "k": 5, "epochs": 300}
    wide = run_stage(parse_recipe(data), str(tmp_path), "sae")
    (warning,) = sae_warnings(wide.record)
    assert warning.code == "l0_far_from_k" and warning.value == pytest.approx(
        wide.record.metrics["last_epoch"]["l0"], abs=0.01
    )
    assert "400 features were fitted to" in warning.message and "fewer features" in warning.message
    near = wide.record.metrics | {"last_epoch": {"l0": 5.9}}
    assert not list(sae_warnings(replace(wide.record, metrics=near)))


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


def test_a_full_disk_ends_training_at_once(ray_cluster: None, data: tuple[Path, Path], small_disk: Path) -> None:
    """Not after Ray Train's further attempts; with room again the run goes on."""
    wanted = recipe(data)
    one = wanted.how.train.model_copy(update={"workers": 1, "cpus": 1.0})
    wanted = wanted.model_copy(update={"how": wanted.how.model_copy(update={"train": one})})
    run_stage(wanted, str(small_disk), "embeddings")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"1" * 4096)
    os.truncate(filler, filler.stat().st_size - 16_384)
    with pytest.raises(ArtifactError, match="cannot be written: no space is left on the device; make room and run it"):
        run_stage(wanted, str(small_disk), "sae")
    filler.unlink()
    assert run_stage(wanted, str(small_disk), "sae").record.metrics["last_epoch"]["epoch"] == 40


def test_a_root_that_cannot_be_written_is_refused_before_any_worker_starts(
    ray_cluster: None, data: tuple[Path, Path], small_disk: Path
) -> None:
    run_stage(recipe(data, engine="loop"), str(small_disk), "embeddings")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    start = time.monotonic()
    with pytest.raises(ArtifactError, match="the file system is read-only"):
        run_stage(recipe(data), str(small_disk), "sae")
    assert time.monotonic() - start < 20


def test_checkpoints_are_made_by_the_clock_unless_epochs_are_given() -> None:
    """350 epochs of a table of 40 images take three seconds, and a checkpoint each tenth took one and a half."""
    seconds = iter([0.0, 5.0, 31.0, 40.0, 62.0])
    pace = Pace(None, Ranks(), clock=lambda: next(seconds))
    assert [pace.due(epoch) for epoch in (1, 2, 3, 4)] == [False, True, False, True]
    assert [Pace(2, Ranks()).due(epoch) for epoch in (1, 2, 3, 4)] == [False, True, False, True]
