import json
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import FILE, FOLDER, Log
from medsae_ray.errors import ArtifactError
from tests.core.judgements.made import judgement
from tests.support.killed import kill_again_and_again
from tests.support.outage import SETTINGS
from tests.support.outage import store as s3_store

WRITERS, EACH = 8, 125


def keys(log: Log) -> list[str]:
    return [one.key for one in log.read().judgements]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """The options of an address on a local S3 server."""
    with s3_store() as door, pytest.MonkeyPatch.context() as patch:
        for name, value in SETTINGS.items():
            patch.setenv(name, value)
        host = door.url.removeprefix("http://")
        yield f"?endpoint_override={host}&scheme=http"


@pytest.fixture(params=["local", "objects"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "local":
        return Store(str(tmp_path))
    return Store(f"s3://archive/{tmp_path.name}{request.getfixturevalue('bucket')}")


def test_what_was_added_is_read_once_and_in_order_of_time(root: Store) -> None:
    log, other = Log(root), Log(root)
    assert log.read() == ([], 0)
    given_ = [judgement(number) for number in (3, 1, 2)]
    assert [log.add(one) for one in given_] == given_
    assert other.read() == (sorted(given_, key=lambda one: one.feature), 0)
    assert other.add(judgement(4)).feature == 4 and keys(log) == keys(Log(root)) == [
        f"key-{n:06d}" for n in (1, 2, 3, 4)
    ]


def test_a_repeated_key_keeps_what_came_first(root: Store) -> None:
    log = Log(root)
    first = log.add(judgement(1))
    again, changed = judgement(1, at="2027-01-01T00:00:00+00:00"), judgement(1, value="disagree")
    for one in (again, changed):
        assert log.add(one) == Log(root).add(one) == first
    assert log.read().judgements == [first] and not changed.same_as(first)


def test_many_threads_may_add_at_once(root: Store) -> None:
    logs = [Log(root), Log(root)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: logs[number % 2].add(judgement(number // 3)), range(120)))
    assert keys(Log(root)) == keys(logs[0]) == [f"key-{number:06d}" for number in range(40)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 30), min_size=1, max_size=6), st.data())
def test_wherever_a_write_is_cut_no_part_counts_and_no_whole_line_is_lost(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[int], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("log")
    log = Log(Store(str(folder)))
    for number in numbers:
        log.add(judgement(number))
    file = folder / FOLDER / FILE
    whole = file.read_bytes()
    cut = data.draw(st.integers(0, len(whole)))
    file.write_bytes(whole[:cut])
    lines = whole[:cut].split(b"\n")
    left = {json.loads(line)["key"] for line in lines[:-1]}
    after = Log(Store(str(folder)))
    assert set(keys(after)) == left and after.read().unreadable == bool(lines[-1])
    for number in [*numbers, 31]:
        after.add(judgement(number))
    wanted = sorted({f"key-{number:06d}" for number in [*numbers, 31]})
    assert keys(after) == sorted(wanted) and keys(Log(Store(str(folder)))) == wanted
    assert file.read_bytes().startswith(whole[:cut]) and file.read_bytes().endswith(b"\n")


def test_a_foreign_or_changed_line_is_counted_and_hides_no_other(tmp_path: Path) -> None:
    log = Log(Store(str(tmp_path)))
    for number in range(3):
        log.add(judgement(number))
    file = tmp_path / FOLDER / FILE
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(
        lines[0] + b"no judgement\n" + lines[1].replace(b"agree", b"unsure") + b"\0" * 40 + b"\n" + lines[2]
    )
    found = Log(Store(str(tmp_path))).read()
    assert [one.feature for one in found.judgements] == [0, 2] and found.unreadable == 3


def test_an_object_that_is_no_judgement_is_not_taken_for_one(bucket: str) -> None:
    root = Store(f"s3://archive/foreign{bucket}")
    root.child(FOLDER).write("key-000001.jsonl", b"{}\n")
    with pytest.raises(ArtifactError, match="is no judgement"):
        Log(root).add(judgement(1))
    assert Log(root).read() == ([], 1)


def test_a_full_disk_is_an_error_and_no_judgement(small_disk: Path) -> None:
    log = Log(Store(str(small_disk)))
    log.add(judgement(0))
    filler = small_disk / "filler"
    free = os.statvfs(small_disk)
    filler.write_bytes(bytes(free.f_bavail * free.f_frsize - 4096))
    notes = [judgement(number, kind="note", value="x" * 2000) for number in range(1, 9)]
    with pytest.raises(ArtifactError, match="no space is left"):
        list(map(log.add, notes))
    kept = keys(log)
    assert kept == keys(Log(Store(str(small_disk))))
    filler.unlink()
    log.add(judgement(500))
    assert keys(Log(Store(str(small_disk)))) == [*kept, "key-000500"]


def test_others_may_not_write_to_the_lock(tmp_path: Path) -> None:
    Log(Store(str(tmp_path))).add(judgement(0))
    assert stat.S_IMODE((tmp_path / FOLDER / ".lock").stat().st_mode) == 0o600


def check_kills(root: Store, each: int) -> None:
    told, kills = kill_again_and_again(root.uri, WRITERS, each, seed=7)
    found = Log(root).read()
    assert kills >= WRITERS
    assert sorted(one.feature for one in found.judgements) == list(range(WRITERS * each))
    assert all(one.feature in told[int(one.reader[1:])] for one in found.judgements)


def test_writers_that_are_killed_lose_and_double_nothing(tmp_path: Path) -> None:
    check_kills(Store(str(tmp_path)), EACH)
    lines = (tmp_path / FOLDER / FILE).read_bytes().splitlines()
    assert len({line for line in lines if line.endswith(b"}")}) == WRITERS * EACH


def test_writers_of_objects_that_are_killed_lose_and_double_nothing(bucket: str) -> None:
    check_kills(Store(f"s3://archive/killed{bucket}"), 12)
