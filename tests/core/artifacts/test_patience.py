"""What a store answers, and whether it is waited for."""

import contextlib
import errno
import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from medsae_ray.core.artifacts import patience
from medsae_ray.core.artifacts.patience import PatientFile, at_most, passes, patiently
from medsae_ray.core.artifacts.store import Store
from tests.support.outage import SETTINGS, Door, store

# As pyarrow 24 says it, of a server that answered so.
_DURING = "When reading information for key 'p/x': AWS Error {} during HeadObject operation: No response body."
PASSING = ["UNKNOWN (HTTP status 503)", "SLOW_DOWN", "SERVICE_UNAVAILABLE", "UNKNOWN (HTTP status 500)"]
PASSING += ["UNKNOWN (HTTP status 429)", "UNKNOWN (HTTP status 504)", "NETWORK_CONNECTION", "INTERNAL_FAILURE"]
FINAL = ["ACCESS_DENIED", "NO_SUCH_BUCKET", "UNKNOWN (HTTP status 400)", "UNKNOWN (HTTP status 301)"]
FINAL += ["INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "RESOURCE_NOT_FOUND", "UNKNOWN (HTTP status 403)"]


@pytest.mark.parametrize("said", PASSING)
def test_what_may_pass_is_waited_for(said: str) -> None:
    assert passes(OSError(_DURING.format(said)))


@pytest.mark.parametrize("said", FINAL)
def test_what_the_store_refuses_is_final(said: str) -> None:
    assert not passes(OSError(_DURING.format(said)))


def test_errors_of_the_network_pass_and_those_of_files_do_not() -> None:
    assert passes(ConnectionRefusedError()) and passes(TimeoutError()) and passes(OSError(errno.EHOSTUNREACH, "x"))
    assert (
        not passes(FileNotFoundError("HTTP status 503")) and not passes(PermissionError()) and not passes(ValueError())
    )
    assert not passes(OSError(errno.ENOSPC, "full")) and not passes(KeyboardInterrupt())


def failing(times: int, error: Exception) -> Any:
    left = [times]

    def act() -> str:
        if left[0]:
            left[0] -= 1
            raise error
        return "there"

    return act


def test_waits_grow_and_are_told_once_without_the_object(caplog: pytest.LogCaptureFixture) -> None:
    slept: list[float] = []
    with caplog.at_level(logging.WARNING):
        assert patiently("s3://b", failing(7, OSError(_DURING.format("SLOW_DOWN"))), slept.append) == "there"
    assert slept == [1, 2, 4, 8, 16, 20, 20]
    away, back = (record.getMessage() for record in caplog.records)
    assert (
        "s3://b does not answer (AWS Error SLOW_DOWN) and is retried" in away
        and "p/x" not in away
        and "answers again" in back
    )


def test_patience_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(patience.time, "monotonic", lambda: now[0])

    def sleep(seconds: float) -> None:
        now[0] += seconds

    for limit, first in ((None, patience.FIRST_S), (10.0, 10.0)):
        now[0] = 0.0
        bound = contextlib.nullcontext() if limit is None else at_most(limit)
        with pytest.raises(OSError, match="SLOW_DOWN"), bound:
            patiently("s3://never", failing(999, OSError(_DURING.format("SLOW_DOWN"))), sleep)
        assert first / 2 < now[0] <= first
    patiently("s3://known", lambda: None)
    now[0] = 0.0
    with pytest.raises(OSError, match="SLOW_DOWN"):
        patiently("s3://known", failing(999, OSError(_DURING.format("SLOW_DOWN"))), sleep)
    assert patience.FIRST_S < now[0] <= patience.PATIENCE_S


def test_a_read_that_breaks_off_goes_on_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience.time, "sleep", lambda seconds: None)

    class Breaking(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads % 2:
                super().read(1)  # a broken read may have moved the stream
                raise OSError(_DURING.format("NETWORK_CONNECTION"))
            return super().read(size)

    with PatientFile("s3://b", lambda: Breaking(b"0123456789")) as stream:
        assert stream.read(3) == b"012" and stream.tell() == 3 and stream.seek(-4, io.SEEK_END) == 6
        assert stream.read() == b"6789" and stream.read() == b""
        stream.seek(0)
        assert io.TextIOWrapper(stream).read() == "0123456789"


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with store() as found, pytest.MonkeyPatch.context() as patch:
        for key, value in {**SETTINGS, "AWS_ENDPOINT_URL": found.url}.items():
            patch.setenv(key, value)
        yield found


def test_a_store_that_answers_503_for_a_while_is_waited_for_by_every_operation(door: Door) -> None:
    root = Store("s3://archive/run")
    root.write("a/part", b"1")
    stream = root.open("a/part")
    timer = door.away(4)
    assert stream.read() == b"1"
    timer.join()
    for act in (
        lambda: root.read("a/part") == b"1",
        lambda: root.names("a") == ["part"],
        lambda: root.write("b", b"2") is None,
        lambda: root.delete_folder("a") is None,
    ):
        timer = door.away(0.5)
        assert act()
        timer.join()
    assert door.refused > 5 and root.names() == ["b"] and root.folders() == []


def test_a_bucket_that_is_not_there_is_told_at_once(door: Door) -> None:
    with pytest.raises(FileNotFoundError):
        Store("s3://no-such-bucket/run").read("x")
