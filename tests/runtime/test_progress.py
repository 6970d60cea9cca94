"""What stages say while something is computed: to the board of their run, and from a worker to the driver."""

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsae_ray.cluster.ray_private import kv_get
from medsae_ray.config import parse_recipe
from medsae_ray.core.sae.fit import EpochLog
from medsae_ray.pipeline import run_stage
from medsae_ray.runtime.board import Bar, Board, StageNow
from medsae_ray.runtime.progress import line
from medsae_ray.stages import sae_progress as train_progress
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture
def data(tmp_path: Path) -> dict[str, object]:
    return recipe_data(table_dataset(tmp_path, 40), onnx_encoder(tmp_path / "e.onnx"), engine="loop")


def written(**how: object) -> Console:
    return Console(file=io.StringIO(), width=120, **how)  # type: ignore[arg-type]


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def entry(epoch: int, fvu: float = 0.25) -> EpochLog:
    return EpochLog(epoch, 1.0, 1.0, 1.0, 0.0, 1 - fvu, fvu, 1 - fvu, 0.9, 3.14, 0.125, 0.01)


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> list[StageNow]:
    """Every state that a bar brings its stage to."""
    seen, reach = list[StageNow](), Bar.reach

    def noted(bar: Bar, *arguments: Any, **numbers: float) -> None:
        reach(bar, *arguments, **numbers)
        seen.extend(now for now in bar.board.now() if now.name == bar.label)

    monkeypatch.setattr(Bar, "reach", noted)
    return seen


def test_training_in_this_process_is_shown(data: dict[str, object], tmp_path: Path, reached: list[StageNow]) -> None:
    console = written()
    made = run_stage(parse_recipe(data), str(tmp_path / "a"), "sae", console)
    assert "epochs" not in text(console), "what takes no half minute has no line"
    training = [now for now in reached if now.name == "sae"]
    assert [now.done for now in training] == list(range(1, 31)) == [now.numbers["epoch"] for now in training]
    last = made.record.metrics["last_epoch"]
    assert training[-1].numbers["fvu"] == pytest.approx(last["fvu"])
    assert training[-1].numbers["l0"] == pytest.approx(last["l0"])
    parts = [now for now in reached if now.name == "embeddings" and now.step == "made"]
    assert [now.done for now in parts] == list(range(6)) and {now.total for now in parts} == {5}
    assert [now.rows for now in parts] == [0, 8, 16, 24, 32, 40]


def test_a_sweep_counts_what_is_done(data: dict[str, object], tmp_path: Path, reached: list[StageNow]) -> None:
    data["what"] |= {"sweep": {"grid": {"width": [8, 16], "seed": [0, 1]}}}  # type: ignore[operator]
    run_stage(parse_recipe(data), str(tmp_path / "root"), "sweep")
    sweep = [now for now in reached if now.name == "sweep"]
    assert [(now.done, now.total, now.unit) for now in sweep] == [(n, 4, "SAEs") for n in (1, 2, 3, 4)]


def test_a_worker_tells_the_driver(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(train_progress, "EACH_S", 0.05)

    @ray.remote(num_cpus=0)
    def work(key: str) -> None:
        tell = train_progress.teller(key)
        for epoch in range(1, 1000):
            tell(entry(epoch))

    board = Board()
    with board.bar("sae", 1000, "epochs") as bar, train_progress.watched("a-test", bar):
        ray.get(work.remote("a-test"))
        deadline = time.monotonic() + 60
        while not bar.done and time.monotonic() < deadline:
            time.sleep(0.02)
    assert bar.done == 1, "a worker's second message has to wait a second"
    assert line(board.now()[0]).startswith("sae: 1 of 1,000 epochs, FVU 0.250, L0 3.1, dead 12%")
    assert kv_get("a-test") is None
