import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from rich.console import Console

from medsae_ray.cli import main
from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import open_artifact, verify
from medsae_ray.errors import MedsaeError, RecipeError
from medsae_ray.pipeline import run_stage
from tests.support.small import onnx_encoder, recipe_data, table_dataset

SAIL = {"architecture": "matryoshka", "compat": "sail", "normalisation": "l2", "selection": "per_level"}
EACH = [
    {"architecture": "topk", "k": 3, "width": 48},
    {"architecture": "relu_l1", "l1": 1.0, "whiten": 0.1},
    SAIL | {"levels": [8, 24], "width": 24, "ks": [1, 3]},
    {"k": 3, "patience": 2, "init": "data"},
]
"""All that an SAE may have of its own in a sweep: kinds of normalisation, start and end."""
SWEEP = {"each": EACH, "grid": {"seed": [0, 1]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 240), onnx_encoder(folder / "e.onnx")


def recipe(data: tuple[Path, Path], sweep: Any, sae: dict[str, Any] | None = None, **how: Any) -> Recipe:
    changed = recipe_data(*data, **how)
    changed["what"]["sae"] = {"width": 32, "epochs": 6, "batch_size": 32} | (sae or {})
    changed["what"]["sweep"] = sweep
    changed["how"]["train"] = {"checkpoint_epochs": 2} | how.get("train", {})
    return parse_recipe(changed)


def weights(folder: Path) -> str:
    return next(f.sha256 for f in open_artifact(str(folder)).record.files if f.name.startswith("weights"))


def saes(root: Path) -> dict[str, str]:
    """Finished SAE -> checksum of its weights."""
    return {p.parent.name: weights(p.parent) for p in root.glob("sae-*/record.json")}


@pytest.fixture(scope="module")
def swept(data: tuple[Path, Path], ray_cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("swept")
    run_stage(recipe(data, SWEEP), str(root), "sweep")
    return root


def test_each_sae_is_bit_for_bit_what_stage_sae_makes_alone(
    swept: Path, data: tuple[Path, Path], tmp_path: Path
) -> None:
    """In a plain loop here and on Ray's workers there, and for one of them through Ray Train too."""
    found = saes(swept)
    assert len(found) == 2 * len(EACH)
    for number, changes in enumerate(EACH):
        engine = "loop" if number else "ray"
        alone = run_stage(recipe(data, None, changes | {"seed": 1}, engine=engine), str(tmp_path), "sae")
        assert found[alone.name] == weights(tmp_path / alone.name)
        there = open_artifact(str(swept / alone.name)).record
        assert (there.what, there.parents) == (alone.record.what, alone.record.parents)
        same = there.metrics["last_epoch"], there.metrics["config"]
        assert same == (alone.record.metrics["last_epoch"], alone.record.metrics["config"])
        assert verify(open_artifact(str(swept / alone.name))) == []


def test_the_table_has_a_row_for_each_and_the_page_shows_it(swept: Path) -> None:
    (folder,) = swept.glob("sweep-*/")
    rows = open_artifact(str(folder)).table().to_pylist()
    assert sorted(row["member"] for row in rows) == list(range(8))
    assert {row["artifact"] for row in rows} == set(saes(swept))
    fronts = [row["front"] for row in rows]
    assert fronts == sorted(fronts) and all(row["pareto"] == (row["front"] == 1) for row in rows)
    for row in rows:
        last = open_artifact(str(swept / row["artifact"])).record.metrics["last_epoch"]
        assert (row["fvu"], row["l0"], row["dead"]) == (last["fvu"], last["l0"], last["dead_share"])
        assert row["r2"] == pytest.approx(1 - row["fvu"]) and 0 < row["cosine"] <= 1 and row["r2_scalar"] > row["r2"]
        assert json.loads(row["settings"])["seed"] in (0, 1) and row["seconds"] > 0
        assert row["artifact"] in (swept / "sweep.html").read_text()


def test_a_run_with_the_settings_of_one_finds_it_there(swept: Path, data: tuple[Path, Path]) -> None:
    before = saes(swept)
    run_stage(recipe(data, None, EACH[0] | {"seed": 1}, engine="loop"), str(swept), "activations")
    assert saes(swept) == before


def test_a_wider_sweep_trains_only_what_is_new(swept: Path, data: tuple[Path, Path]) -> None:
    before = {p: p.stat().st_mtime_ns for p in swept.glob("sae-*/*") if p.is_file()}
    wider = {"each": EACH, "grid": {"seed": [0, 1, 2]}}
    made = run_stage(recipe(data, wider, engine="loop"), str(swept), "sweep")
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert len(saes(swept)) == 12 and made.record.run["parts_reused"] == 8


def test_an_sae_that_diverges_is_a_row_with_its_reason(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = {"each": [{"architecture": "relu_l1", "l1": 1e38, "lr": 0.9}, {"k": 2}]}
    console = Console(width=120)
    made = run_stage(recipe(data, sweep, engine="loop"), str(tmp_path), "sweep", console)
    good, bad = made.table().to_pylist()
    assert good["reason"] is None and good["front"] == 1
    assert bad["reason"] == "diverged" and "lower lr (now 0.9)" in bad["message"] and bad["artifact"] is None
    assert made.record.not_ok == {"diverged": 1} and len(saes(tmp_path)) == 1
    assert "diverged" in capsys.readouterr().out


def kill_the_trainer_twice(root: Path, killed: list[int]) -> None:
    """SIGKILL this test's worker that trains, each time that it has left a checkpoint and the other SAE is there."""
    for attempt in (1, 2):
        wait_for(lambda n=attempt: len(saes(root)) == 1 and len(attempts(root)) == n)
        for process in psutil.Process().children(recursive=True):
            if process.cmdline()[:1] == ["ray::_train"]:
                os.kill(process.pid, signal.SIGKILL)
                killed.append(process.pid)


def attempts(root: Path) -> set[Path]:
    """Those that left a checkpoint."""
    return {path.parents[1] for path in root.glob("sae-*/_attempts/*/epoch-*/state-*")}


def wait_for(sign: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and not sign():
        time.sleep(0.02)


def test_a_worker_that_is_killed_too_often_costs_its_own_sae_and_the_next_sweep_goes_on_with_it(
    data: tuple[Path, Path], ray_cluster: None, tmp_path: Path
) -> None:
    long = {"width": 64, "epochs": 900, "batch_size": 128}
    sweep = {"each": [long, {"epochs": 1}]}
    wanted = recipe(data, sweep, train={"retries": 1, "checkpoint_epochs": 20})
    run_stage(recipe(data, None, engine="loop"), str(tmp_path), "embeddings")
    killed: list[int] = []
    killer = threading.Thread(target=kill_the_trainer_twice, args=(tmp_path, killed), daemon=True)
    killer.start()
    with pytest.raises(MedsaeError, match=r'workers of 1 of 2 SAEs died.*"epochs": 900.*run the sweep again'):
        run_stage(wanted, str(tmp_path), "sweep")
    killer.join()
    assert len(set(killed)) == 2 and len(saes(tmp_path)) == 1 and not list(tmp_path.glob("sweep-*/record.json"))
    assert "its worker died 2 times" in (tmp_path / "sweep.html").read_text()
    run_stage(recipe(data, sweep, engine="loop"), str(tmp_path), "sweep")
    alone = run_stage(recipe(data, None, long, engine="loop"), str(tmp_path / "alone"), "sae")
    assert saes(tmp_path)[alone.name] == saes(tmp_path / "alone")[alone.name]
    assert open_artifact(str(tmp_path / alone.name)).record.metrics["resumed_from_epoch"] > 0


def test_a_batch_that_the_rows_cannot_fill_is_refused_before_anything_is_trained(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match="batch_size = 4096 is above"):
        run_stage(recipe(data, {"grid": {"batch_size": [32, 4096]}}, engine="loop"), str(tmp_path), "sweep")
    assert not saes(tmp_path)


def test_the_command_ends_with_the_path_of_the_page(
    data: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = recipe_data(*data, engine="loop")
    wanted["what"]["sae"] |= {"epochs": 1}
    (tmp_path / "none.yaml").write_text(json.dumps(wanted))
    wanted["what"]["sweep"] = {"grid": {"k": [1, 2]}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(wanted))
    assert main(["sweep", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out.rstrip().splitlines()
    assert printed[-1] == f"page: {tmp_path}/runs/sweep.html" and (tmp_path / "runs" / "sweep.html").exists()
    assert any(line.split()[:3] == ["settings", "front", "L0"] for line in printed)
    assert main(["sweep", str(tmp_path / "none.yaml"), "--root", str(tmp_path / "runs")]) == 1
    assert "needs what.sweep" in capsys.readouterr().err
