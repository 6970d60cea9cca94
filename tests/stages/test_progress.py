"""What is shown while something is computed: bars on a terminal, lines now and then in a file."""

import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.core.sae.fit import EpochLog
from medsae_ray.stages import progress, train_progress
from medsae_ray.stages.pipeline import run_stage
from medsae_ray.stages.progress import Bars, duration
from tests.small import onnx_encoder, recipe_data, table_dataset


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


def test_a_file_has_a_line_of_each_bar_at_most_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    console, clock = written(), [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with Bars(console).bar("sae", 4000, "epochs") as bar:
        for epoch in range(1001, 4001):
            clock[0] += 0.125
            train_progress.show(bar, entry(epoch))
    lines = text(console).splitlines()
    assert len(lines) == 12
    assert lines[0] == "sae: 1,240 of 4,000 epochs, FVU 0.250, L0 3.1, dead 12%, about 6 min left"
    assert lines[-1] == "sae: 3,880 of 4,000 epochs, FVU 0.250, L0 3.1, dead 12%, about 15 s left"


def test_work_of_unknown_length_says_only_what_it_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    console = written()
    with Bars(console).bar("engine", None) as bar:
        bar.say("loading [weights]")
    assert text(console) == "engine: loading [weights]\n"


def test_times_are_for_reading() -> None:
    assert [duration(s) for s in (0.4, 89, 91, 3600, 9000)] == ["0 s", "89 s", "2 min", "60 min", "2.5 h"]


def test_training_in_this_process_is_shown(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = written()
    run_stage(parse_recipe(data), str(tmp_path / "a"), "sae", quick)
    assert " of 30 epochs" not in text(quick), "what takes no half minute has no line"
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    console, terminal = written(), written(force_terminal=True)
    made = run_stage(parse_recipe(data), str(tmp_path / "b"), "sae", console)
    found = re.findall(r"sae: (\d+) of 30 epochs, FVU (\d\.\d+), L0 (\d+\.\d), dead (\d+)%", text(console))
    assert [int(epoch) for epoch, *_ in found] == list(range(1, 31))
    last = made.record.metrics["last_epoch"]
    assert float(found[-1][1]) == pytest.approx(last["fvu"], abs=6e-4)
    assert float(found[-1][2]) == pytest.approx(last["l0"], abs=0.06)
    assert re.search(r"embeddings: 5 of 5 parts", text(console))
    run_stage(parse_recipe(data), str(tmp_path / "c"), "sae", terminal)
    assert " of 30 epochs" not in text(terminal)


def test_a_sweep_counts_what_is_done(data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    data["what"] |= {"sweep": {"grid": {"width": [8, 16], "seed": [0, 1]}}}  # type: ignore[operator]
    console = written()
    run_stage(parse_recipe(data), str(tmp_path / "root"), "sweep", console)
    assert re.findall(r"sweep: (\d) of 4 SAEs", text(console)) == ["1", "2", "3", "4"]


def test_a_worker_tells_the_driver(ray_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(train_progress, "EACH_S", 0.05)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)

    @ray.remote(num_cpus=0)
    def work(key: str) -> None:
        tell = train_progress.teller(key)
        for epoch in range(1, 1000):
            tell(entry(epoch))

    console = written()
    with Bars(console).bar("sae", 1000, "epochs") as bar, train_progress.watched("a-test", bar):
        ray.get(work.remote("a-test"))
        deadline = time.monotonic() + 60
        while not bar.done and time.monotonic() < deadline:
            time.sleep(0.02)
    assert bar.done == 1, "a worker's second message has to wait a second"
    assert text(console).startswith("sae: 1 of 1,000 epochs, FVU 0.250, L0 3.1, dead 12%")
    from ray.experimental.internal_kv import _internal_kv_get

    assert _internal_kv_get("a-test") is None
