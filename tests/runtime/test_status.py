"""The status files of a root: what they say while a run is at work, how it ended, and whose status.json is."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from medsae_ray.cli import main
from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import MedsaeError
from medsae_ray.pipeline import run_stage
from medsae_ray.runtime import status
from medsae_ray.runtime.board import DONE, Board
from medsae_ray.runtime.status import LOST, LOST_S, StatusFile, statuses
from tests.support.small import onnx_encoder, recipe_data, table_dataset

KEYS = {"run", "recipe", "host", "pid", "start", "now", "state", "error", "stages", "engine"}


@pytest.fixture
def data(tmp_path: Path) -> dict[str, object]:
    return recipe_data(table_dataset(tmp_path, 40), onnx_encoder(tmp_path / "e.onnx"), engine="loop")


def latest(root: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((root / "status.json").read_text())
    return found


def test_the_numbers_are_those_of_the_receipts(data: dict[str, object], tmp_path: Path) -> None:
    (tmp_path / "i0003.png").write_bytes(b"no image")
    root = tmp_path / "root"
    run_stage(parse_recipe(data), str(root), "activations")
    told = latest(root)
    assert set(told) == KEYS and told["state"] == "done" and told["error"] is None and told["pid"] == os.getpid()
    (own,) = (root / "status").iterdir()
    assert json.loads(own.read_text()) == told
    assert [stage["name"] for stage in told["stages"]] == ["manifest", "embeddings", "sae", "activations"]
    for stage in told["stages"]:
        record = open_artifact(str(root / stage["artifact"])).record
        assert (stage["state"], stage["rows"], stage["not_ok"]) == (DONE, record.rows, sum(record.not_ok.values()))
        if stage["name"] in ("embeddings", "activations"):
            parts = [file for file in record.files if file.shard >= 0]
            assert stage["done"] == stage["total"] == stage["counts"]["parts"] == len(parts) == 5
            assert stage["counts"]["rows"] == sum(file.rows for file in parts)
    embeddings = next(stage for stage in told["stages"] if stage["name"] == "embeddings")
    assert embeddings["not_ok"] == embeddings["counts"]["not_ok"] == 1
    assert next(stage for stage in told["stages"] if stage["name"] == "sae")["numbers"]["epoch"] == 30


def test_what_was_there_counts_as_done_but_not_as_this_runs_work(data: dict[str, object], tmp_path: Path) -> None:
    root = tmp_path / "root"
    made = run_stage(parse_recipe(data), str(root), "embeddings")
    (root / made.name / "record.json").unlink()
    (root / made.name / "part-00004.parquet").unlink()
    run_stage(parse_recipe(data), str(root), "embeddings")
    manifest, embeddings = latest(root)["stages"]  # type: ignore[misc]
    assert manifest["state"] == "already there" and manifest["seconds"] == 0 and manifest["counts"] == {}
    assert (embeddings["done"], embeddings["rows"]) == (5, 40)
    assert embeddings["counts"] == {"parts": 1, "rows": 8}
    assert len(list((root / "status").iterdir())) == 2


def test_a_run_that_fails_says_so_in_one_line(data: dict[str, object], tmp_path: Path) -> None:
    for image in tmp_path.glob("*.png"):
        image.unlink()
    with pytest.raises(MedsaeError):
        run_stage(parse_recipe(data), str(tmp_path / "root"), "embeddings")
    told = latest(tmp_path / "root")
    assert told["state"] == "failed" and "are missing" in str(told["error"]) and "\n" not in str(told["error"])
    assert [stage["state"] for stage in told["stages"]] == ["done", "failed"]  # type: ignore[attr-defined]


def test_a_root_that_cannot_be_written_ends_no_run(
    data: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    run_stage(parse_recipe(data), str(root), "manifest")
    before = sorted(root.rglob("*"))

    def refused(store: Store, name: str, content: bytes) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Store, "write", refused)
    assert run_stage(parse_recipe(data), str(root), "manifest").record.stage == "manifest"
    assert sorted(root.rglob("*")) == before


def at_work(ago_s: float = 0.0) -> Board:
    """The board of a run in the middle of a stage; its clock is behind."""
    board = Board(wall=lambda: time.time() - ago_s)
    board.bar("sae", 30, "epochs").__enter__()
    return board


def told_by(root: Path, board: Board, start: datetime) -> StatusFile:
    file = StatusFile(Store(str(root)), "a recipe", start)
    file.look(board)
    return file


def test_what_is_refused_before_its_first_stage_leaves_nothing(tmp_path: Path) -> None:
    told_by(tmp_path, Board(), datetime.now(UTC))
    assert not list(tmp_path.iterdir())


def test_status_json_is_the_newest_runs_that_is_at_work(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    first, second = at_work(), at_work()
    one = told_by(tmp_path, first, now - timedelta(hours=2))
    two = told_by(tmp_path, second, now - timedelta(hours=1))
    one.look(first)
    assert latest(tmp_path)["run"] == two.run, "the older run leaves it alone"
    second.end(DONE)
    two.look(second)
    assert latest(tmp_path)["run"] == two.run
    one.look(first)
    assert latest(tmp_path)["run"] == one.run, "the newer run has ended, the older is at work"
    assert [told["run"] for told in statuses(Store(str(tmp_path)))] == [two.run, one.run]


def test_a_newer_run_that_was_killed_does_not_keep_status_json(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    killed, board = at_work(LOST_S + 10), at_work()
    two = told_by(tmp_path, killed, now - timedelta(hours=1))
    one = told_by(tmp_path, board, now - timedelta(hours=2))
    assert latest(tmp_path)["run"] == one.run
    newest, _ = statuses(Store(str(tmp_path)))
    assert newest["run"] == two.run and newest["state"] == LOST and newest["age_s"] > LOST_S


def test_the_command_shows_runs_and_gives_json(
    data: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    run_stage(parse_recipe(data), str(root), "embeddings")
    told_by(root, at_work(600), datetime.now(UTC) - timedelta(hours=1))
    (root / "status" / "notes.json").write_text("[]")
    assert main(["status", str(root)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "small" in said and "5 of 5 parts 40" in said and "no sign of it for 10 min" in said
    assert main(["status", str(root), "--json"]) == 0
    done, lost = json.loads(capsys.readouterr().out)["runs"]
    assert done["state"] == "done" and lost["state"] == LOST
    assert main(["status", str(tmp_path / "nowhere")]) == 1
    assert "no status of a run" in capsys.readouterr().err


def test_the_command_does_not_need_ray(tmp_path: Path) -> None:
    told_by(tmp_path, at_work(), datetime.now(UTC))
    code = (
        "import sys; from medsae_ray.cli import main; status = main(sys.argv[1:]);"
        "assert not {'ray', 'torch'} & set(sys.modules), 'imported'; sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code, "status", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "running" in done.stdout


def test_a_killed_run_is_told_from_one_that_runs(tmp_path: Path) -> None:
    code = (
        "import os, signal, time; from medsae_ray.core.artifacts.store import Store;"
        "from medsae_ray.runtime.board import Board; from medsae_ray.runtime.progress import listened;"
        "from medsae_ray.runtime.status import StatusFile; StatusFile.every_s = 0.1; board = Board();"
        f"file = StatusFile(Store({str(tmp_path)!r}), 'r')\n"
        "with listened(board, file), board.stage('sae'): time.sleep(600)"
    )
    run = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 60
    while not (tmp_path / "status.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    (told,) = statuses(Store(str(tmp_path)))
    assert told["state"] == "running" and told["pid"] == run.pid
    (told,) = statuses(Store(str(tmp_path)), datetime.now(UTC) + timedelta(seconds=LOST_S + 5))
    assert told["state"] == LOST and status.EVERY_S * 10 < LOST_S
