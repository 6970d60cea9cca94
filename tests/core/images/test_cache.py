"""The cache of slow stores, before a folder that passes for one; tests/runtime/test_s3.py has an object store."""

import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.archives import fetch
from medsae_ray.core.images.cache import Cached
from medsae_ray.core.images.sources import Folders
from medsae_ray.errors import ImageError

SPAWN = multiprocessing.get_context("spawn")
FILES = 40


class Remote(Store):
    """A folder of this machine that says it is elsewhere."""

    @property
    def is_local(self) -> bool:
        return False


def content(number: int) -> bytes:
    """100 to 4,000 bytes that are different for every file."""
    return np.random.default_rng(number).bytes(100 + 97 * number)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "store").mkdir()
    for number in range(FILES):
        (tmp_path / "store" / f"{number}.png").write_bytes(content(number))
    return Remote(str(tmp_path / "store"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the store was asked for which file."""
    found: Counter[str] = Counter()
    read = Store.read

    def counted(self: Store, name: str) -> bytes:
        found[name] += 1
        return read(self, name)

    monkeypatch.setattr(Store, "read", counted)
    return found


def cached(store: Store, tmp_path: Path, limit: int = 10**9) -> Cached:
    return Cached(store, str(tmp_path / "cache"), limit)


def held(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").iterdir() if path.name != "used"]


def test_a_file_is_asked_for_once(store: Store, tmp_path: Path, asked: Counter[str]) -> None:
    images = cached(store, tmp_path)
    assert all(fetch(images, f"{n}.png") == content(n) for n in range(5) for _ in range(3))
    again = Cached(Folders({"x": store}), images.folder, images.limit)
    assert fetch(again, "x/3.png") == content(3)
    assert asked == {f"{n}.png": 1 for n in range(5)}
    assert all(path.stat().st_mode & 0o77 == 0 for path in [tmp_path / "cache", *held(tmp_path)])


def test_local_files_are_not_kept_twice(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"here")
    images = cached(Store(str(tmp_path)), tmp_path)
    assert fetch(images, "a.png") == fetch(images, str(tmp_path / "a.png")) == b"here"
    assert not (tmp_path / "cache").exists()


def test_a_web_server_tells_versions_in_its_headers(tmp_path: Path, asked: Counter[str]) -> None:
    (tmp_path / "a.png").write_bytes(b"first")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        images = cached(Store(f"http://127.0.0.1:{server.server_port}"), tmp_path)
        assert [fetch(images, "a.png") for _ in range(3)] == [b"first"] * 3 and asked == {"a.png": 1}
        (tmp_path / "a.png").write_bytes(b"other")
        os.utime(tmp_path / "a.png", (10, 10))
        assert fetch(images, "a.png") == b"other"
        server.shutdown()


def test_a_store_that_tells_no_version_is_read_each_time(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/somewhere/a.png", b"first")
    images = cached(Store("memory://somewhere"), tmp_path)
    assert fetch(images, "a.png") == b"first"
    memory.pipe("/somewhere/a.png", b"other")
    assert fetch(images, "a.png") == b"other"


def test_a_file_that_changed_is_read_again(store: Store, tmp_path: Path) -> None:
    images, file = cached(store, tmp_path), tmp_path / "store" / "7.png"
    before = fetch(images, "7.png")
    file.write_bytes(before[::-1])
    os.utime(file, ns=(1, 1))
    assert fetch(images, "7.png") == before[::-1] != before
    file.unlink()
    with pytest.raises(ImageError, match="missing"):
        fetch(images, "7.png")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_files_are_never_served(store: Store, tmp_path: Path, data: st.DataObject) -> None:
    images = cached(store, tmp_path)
    fetch(images, "9.png")
    (kept,) = held(tmp_path)
    whole = kept.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    flipped = bytes([whole[at] ^ data.draw(st.integers(1, 255))])
    kept.write_bytes(data.draw(st.sampled_from([whole[:at], whole[:at] + flipped + whole[at + 1 :], whole + b"0"])))
    assert fetch(images, "9.png") == content(9) and kept.read_bytes() == whole


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(reads=st.lists(st.integers(0, FILES - 1), max_size=60), limit=st.integers(1, 20_000))
@example(reads=[1], limit=219)  # less than file and checksum
def test_the_bound_holds_after_every_read(store: Store, tmp_path: Path, reads: list[int], limit: int) -> None:
    images = Cached(store, str(tmp_path / f"cache-{time.time_ns()}"), limit)
    for number in reads:
        assert fetch(images, f"{number}.png") == content(number)
        folder = Path(images.folder)
        sizes = [path.stat().st_size for path in folder.iterdir() if path.name != "used"] if folder.exists() else []
        assert sum(sizes) <= limit
        assert not sizes or sum(sizes) <= int((folder / "used").read_text()) <= limit


def test_what_was_used_longest_ago_makes_room(store: Store, tmp_path: Path, asked: Counter[str]) -> None:
    images = cached(store, tmp_path, sum(len(content(n)) + 32 for n in range(20, 26)))
    for number in (20, 21, 22, 23, 24, 20, 25, 20, 26):
        fetch(images, f"{number}.png")
    asked.clear()
    for number in (26, 20, 25):
        fetch(images, f"{number}.png")
    assert not asked
    fetch(images, "21.png")
    assert asked == {"21.png": 1}


def test_a_disk_that_cannot_be_written_only_costs_time(store: Store, tmp_path: Path, asked: Counter[str]) -> None:
    (tmp_path / "cache").write_text("a file")
    images = cached(store, tmp_path)
    assert [fetch(images, "3.png") for _ in range(2)] == [content(3)] * 2 and asked["3.png"] == 2


def test_a_number_that_was_not_written_to_its_end_is_counted_anew(store: Store, tmp_path: Path) -> None:
    images = cached(store, tmp_path, 9_000)
    for number in (30, 31):
        fetch(images, f"{number}.png")
    (tmp_path / "cache" / "used").write_bytes(b"0000")
    fetch(images, "32.png")
    assert (
        sum(path.stat().st_size for path in held(tmp_path)) <= int((tmp_path / "cache" / "used").read_text()) <= 9_000
    )


def _read_on(images: Cached, seed: int, reads: int) -> None:
    """Read at random; the exit status is 1 if ever a byte is wrong."""
    for number in np.random.default_rng(seed).integers(0, FILES, reads).tolist():
        with images.open_uri(f"{number}.png") as stream:
            if stream.read() != content(number):
                os._exit(1)


def _started(images: Cached, seed: int, reads: int) -> multiprocessing.process.BaseProcess:
    process = SPAWN.Process(target=_read_on, args=(images, seed, reads))
    process.start()
    return process


def test_a_writer_that_dies_before_a_file_has_its_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = cached(store, tmp_path, 9_000)

    def dies(*names: Path) -> None:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", dies)
        with pytest.raises(SystemExit):
            fetch(images, "39.png")
    assert [path.name for path in held(tmp_path)] == ["incoming"]
    for number in (30, 31, 39, 32):
        assert fetch(images, f"{number}.png") == content(number)
        assert sum(path.stat().st_size for path in held(tmp_path)) <= 9_000
    assert "incoming" not in {path.name for path in held(tmp_path)}


def test_many_processes_share_it(store: Store, tmp_path: Path) -> None:
    images = cached(store, tmp_path, 12_000)
    processes = [_started(images, seed, 1000) for seed in range(4)]
    while any(process.is_alive() for process in processes):
        time.sleep(0.02)
        if (tmp_path / "cache").exists():
            assert sum(_size(path) for path in held(tmp_path)) <= 12_000
    assert [process.exitcode for process in processes] == [0] * 4
    assert sum(_size(path) for path in held(tmp_path)) <= int((tmp_path / "cache" / "used").read_text()) <= 12_000


def test_killed_writers_leave_it_whole(store: Store, tmp_path: Path) -> None:
    images, used = cached(store, tmp_path, 30_000), tmp_path / "cache" / "used"
    for seed in range(4):
        before = used.stat().st_mtime_ns if seed else 0
        process = _started(images, seed, 10**6)
        while not used.exists() or used.stat().st_mtime_ns == before:
            time.sleep(0.01)
        time.sleep(0.01 * seed)
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    _read_on(images, 9, 200)
    assert sum(_size(path) for path in held(tmp_path)) <= 30_000


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
