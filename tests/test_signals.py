"""Ctrl-C and SIGTERM: one line, a status that says which, and no traceback."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from medsae_ray.core.artifacts.artifact import open_artifact, verify
from medsae_ray.signals import AGAIN_S, Terminated, stopped, terminable
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.mark.parametrize(
    ("number", "kind", "status"), [(signal.SIGINT, KeyboardInterrupt, 130), (signal.SIGTERM, Terminated, 143)]
)
def test_a_signal_is_raised_once_and_said(
    number: int, kind: type[KeyboardInterrupt], status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(kind) as raised, terminable():
        signal.raise_signal(number)
    assert signal.getsignal(number) is before and stopped(raised.value, leave=False) == status
    assert capsys.readouterr().err == "medsae: stopped; run it again to go on\n"


def test_a_signal_during_an_import_waits_for_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["import os, signal, time", "os.kill(os.getpid(), signal.SIGINT)", "time.sleep(0.01)", "whole = True"]
    (tmp_path / "slow_to_import.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)

    def use() -> None:
        import slow_to_import  # type: ignore[import-not-found]

        assert slow_to_import.whole
        time.sleep(20 * AGAIN_S)

    with pytest.raises(KeyboardInterrupt), terminable():
        use()


def test_another_thread_has_no_signals() -> None:
    found = []

    def use() -> None:
        with terminable():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_keeps_what_is_finished(tmp_path: Path, number: int, status: int) -> None:
    data = recipe_data(table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    data["what"]["sae"]["epochs"] = 10**6
    (tmp_path / "r.yaml").write_text(json.dumps(data))
    medsae = [
        sys.executable,
        "-u",
        "-m",
        "medsae_ray.cli",
        "run",
        str(tmp_path / "r.yaml"),
        "--root",
        str(tmp_path / "r"),
    ]
    with subprocess.Popen(medsae, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as run:
        assert run.stdout is not None and run.stderr is not None
        assert any(line.startswith("· sae: ") for line in run.stdout)
        run.send_signal(number)
        assert run.wait(timeout=120) == status
        assert run.stderr.read() == "medsae: stopped; run it again to go on\n"
    (embeddings,) = (tmp_path / "r").glob("embeddings-*")
    assert verify(open_artifact(str(embeddings))) == []
