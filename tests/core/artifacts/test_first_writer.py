"""Writers of one new object at once, on an S3 server that refuses the second."""

import multiprocessing
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.core.artifacts import first_writer
from medsae_ray.core.artifacts.store import Store
from tests.support.outage import SETTINGS, Door, store

WRITERS, ROUNDS = 4, 40


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with store() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_is_known_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_writer, "_works", {})


@pytest.fixture
def s3(door: Door, monkeypatch: pytest.MonkeyPatch) -> str:
    for key, value in {**SETTINGS, "AWS_ENDPOINT_URL": door.url}.items():
        monkeypatch.setenv(key, value)
    return "s3://archive"


def compete(uri: str, writer: int, start: Any, say: Callable[[tuple[int, list[int]]], None]) -> None:
    folder, won = Store(uri), []
    for number in range(ROUNDS):
        start.wait(60)
        if folder.write_new(f"record-{number}", b"%d" % writer):
            won.append(number)
    say((writer, won))


def winners(uri: str, won: dict[int, list[int]]) -> list[bytes]:
    """Who is in each file; each has to have won that one, and nobody else."""
    in_file = [Store(uri).read(f"record-{number}") for number in range(ROUNDS)]
    of_writer = [[b"%d" % writer for writer in won if number in won[writer]] for number in range(ROUNDS)]
    assert of_writer == [[one] for one in in_file]
    return in_file


def test_of_many_threads_exactly_one_wins_every_time(s3: str) -> None:
    start, said = threading.Barrier(WRITERS), list[tuple[int, list[int]]]()
    threads = [
        threading.Thread(target=compete, args=(f"{s3}/threads", writer, start, said.append))
        for writer in range(WRITERS)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners(f"{s3}/threads", dict(said))
    assert first_writer._works == {"archive": True}


def test_of_many_processes_exactly_one_wins_every_time(s3: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    start, said = spawn.Barrier(WRITERS), spawn.Queue()
    processes = [
        spawn.Process(target=compete, args=(f"{s3}/processes", writer, start, said.put)) for writer in range(WRITERS)
    ]
    for process in processes:
        process.start()
    won = dict(said.get(timeout=300) for _ in processes)
    for process in processes:
        process.join()
    winners(f"{s3}/processes", won)


def test_names_of_any_character_are_those_that_pyarrow_writes(s3: str) -> None:
    for name in ("a b", "exp#1 ü?", "100%", "a%20b", "a+b&c=d", "[1]", "~", "a:b"):
        folder = Store(f"{s3}/{name}")
        assert folder.write_new(name, name.encode()) and folder.read(name) == name.encode()
        assert not folder.write_new(name, b"another") and folder.names() == [name]
    assert first_writer._works == {"archive": True}


def test_the_place_of_the_store_may_be_an_option_of_its_address(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in SETTINGS.items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    host = door.url.removeprefix("http://")
    folder = Store(f"s3://archive/options?endpoint_override={host}&scheme=http&region=us-east-1")
    assert folder.write_new("record", b"first") and not folder.write_new("record", b"second")
    assert folder.read("record") == b"first" and first_writer._works == {"archive": True}


def test_keys_that_pyarrow_alone_finds_are_enough(s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {key: value for key, value in SETTINGS.items() if "KEY" in key}
    (tmp_path / "keys").write_text("[default]\n" + "\n".join(f"{key.lower()} = {keys[key]}" for key in keys))
    for key in keys:
        monkeypatch.delenv(key)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")  # no machine of AWS, and nobody else's keys
    folder = Store(f"{s3}/keys")
    assert folder.write_new("record", b"first") and not folder.write_new("record", b"second")
    assert folder.read("record") == b"first" and first_writer._works == {"archive": False}


def test_a_store_that_is_away_for_a_moment_is_waited_for(s3: str, door: Door) -> None:
    folder = Store(f"{s3}/away")
    assert not folder.exists("record")
    door.away(3)
    assert folder.write_new("record", b"first") and not folder.write_new("record", b"second")
    assert folder.read("record") == b"first"


def test_a_machine_without_obstore_writes_as_before(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "obstore", None)
    folder = Store(f"{s3}/without")
    assert folder.write_new("record", b"first") and not folder.write_new("record", b"second")
    assert first_writer._works == {}
