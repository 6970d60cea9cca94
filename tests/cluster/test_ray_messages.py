"""What Ray prints of its own accord is kept to a line each."""

import pytest
from ray._private import worker

from medsae_ray.cluster.ray_messages import LONGEST, brief, shorten

DUMP = (
    "Raylet is terminated. Termination is unexpected. Possible reasons include: (1) SIGKILL by the user or system OOM "
    "killer, (2) Invalid memory access from Raylet causing SIGSEGV or SIGBUS, (3) Other termination signals. Last 20 "
    "lines of the Raylet logs:\n" + "".join(f"    [state-dump] line {n}\n" for n in range(20))
)


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (DUMP, "Raylet is terminated. Termination is unexpected."),
        (
            "The node ab has been marked dead. This can happen when a \t(1) raylet crashes",
            "The node ab has been marked dead.",
        ),
        ("one\ntwo", "one"),
        ("x" * 1000, "x" * LONGEST + "..."),
        ("", ""),
    ],
)
def test_a_message_is_one_line(message: str, shown: str) -> None:
    assert brief(message) == shown


def test_what_ray_prints_goes_through_it_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "print_to_stdstream", worker.print_to_stdstream)
    shorten()
    ours = worker.print_to_stdstream
    shorten()
    assert worker.print_to_stdstream is ours
    # As in Ray's `listen_error_messages`.
    ours({"lines": [DUMP], "pid": "raylet", "is_err": False}, ignore_prefix=False)
    said = capsys.readouterr().out
    assert "Raylet is terminated" in said and "state-dump" not in said and len(said.splitlines()) == 1
