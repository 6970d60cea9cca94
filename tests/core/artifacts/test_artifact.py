import dataclasses
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from medsae_ray.core.artifacts.artifact import Draft, Receipt, fingerprint, open_artifact, part_name, verify
from medsae_ray.core.artifacts.schema import embeddings
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import ArtifactError

SCHEMA = embeddings(2)


def rows(n: int, bad: int = 0) -> pa.Table:
    x = [None if i < bad else [float(i), 1.0] for i in range(n)]
    reason = ["truncated" if i < bad else None for i in range(n)]
    ok = [r is None for r in reason]
    return pa.table({"image_id": [f"i{i}" for i in range(n)], "x": x, "ok": ok, "reason": reason}, schema=SCHEMA)


def draft(root: Path, what: dict[str, object] | None = None) -> Draft:
    return Draft(Store(str(root)), "embeddings", 1, dict(what or {"a": 1}), {})


def committed(root: Path) -> Draft:
    made = draft(root)
    writer = made.writer(SCHEMA)
    made.commit([writer.write(s, rows(3, bad=s), 3) for s in range(2)], {}, {"start": "", "end": ""})
    return made


def test_without_a_record_there_is_no_artifact(tmp_path: Path) -> None:
    made = draft(tmp_path)
    made.writer(SCHEMA).write(0, rows(3), 3)
    assert made.committed() is None
    with pytest.raises(ArtifactError, match="not a finished artifact"):
        open_artifact(made.store.uri)


def test_a_committed_artifact_gives_its_rows_counts_and_schema(tmp_path: Path) -> None:
    artifact = open_artifact(committed(tmp_path).store.uri)
    assert artifact.schema.equals(SCHEMA)
    assert artifact.record.rows == artifact.table().num_rows == 6
    assert artifact.record.not_ok == {"truncated": 1}
    assert artifact.part(1)["x"].to_pylist()[0] is None


@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_verify_names_a_damaged_file(tmp_path: Path, damage: str) -> None:
    made = committed(tmp_path)
    part = Path(made.store.path(part_name(1)))
    data = part.read_bytes()
    if damage == "delete":
        part.unlink()
    else:
        part.write_bytes(data[:-9] if damage == "cut" else data[:60] + bytes([data[60] ^ 1]) + data[61:])
    (problem,) = verify(open_artifact(made.store.uri))
    assert problem.startswith("part-00001.parquet")


def test_a_lost_row_is_refused_and_the_shard_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="shard 7 has 4 rows, 3 were computed"):
        draft(tmp_path).writer(SCHEMA).write(7, rows(3), 4)
    assert draft(tmp_path).store.names() == []


def test_another_schema_is_refused(tmp_path: Path) -> None:
    writer = draft(tmp_path).writer(SCHEMA)
    with pytest.raises(ArtifactError, match="'x' is"):
        writer.write(0, rows(2).set_column(1, "x", pa.array([[1.0], [2.0]])), 2)
    with pytest.raises(ArtifactError, match="nulls"):
        writer.write(0, rows(2).set_column(2, "ok", pa.array([True, None])), 2)


def test_only_whole_parts_of_this_draft_count_as_finished(tmp_path: Path) -> None:
    made, other = draft(tmp_path), draft(tmp_path, {"a": 2})
    writer = made.writer(SCHEMA)
    receipts = [writer.write(s, rows(3, bad=1), 3) for s in range(4)]
    Path(made.store.path(part_name(1))).write_bytes(made.store.read(part_name(1))[:-20])
    foreign = dataclasses.replace(writer, fingerprint=other.fingerprint)
    foreign.write(2, rows(3), 3)
    finished = writer.finished({0: 3, 1: 3, 2: 3, 3: 4, 9: 3})
    assert finished == {0: receipts[0]}


def test_writing_a_part_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    writer = draft(tmp_path).writer(SCHEMA)
    assert writer.write(0, rows(5), 5) == writer.write(0, rows(5), 5)


def test_the_first_commit_stands(tmp_path: Path) -> None:
    first, second = draft(tmp_path), draft(tmp_path)
    a = first.write_file("weights", ".bin", b"a")
    b = second.write_file("weights", ".bin", b"b")
    one = first.commit([a], {}, {"start": "1"})
    two = second.commit([b], {}, {"start": "2"})
    assert two.record == one.record and two.file("weights") == b"a"
    assert verify(two) == []


@pytest.mark.parametrize("damage", ["missing", "2 of"])
def test_nothing_half_there_is_committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    monkeypatch.setattr("medsae_ray.core.artifacts.artifact.SHOWN_AFTER_S", (0.0, 0.01))
    made = draft(tmp_path)
    parts = [made.writer(SCHEMA).write(s, rows(3), 3) for s in range(3)]
    lacking = tmp_path / made.name / "part-00001.parquet"
    lacking.unlink()
    if damage != "missing":
        lacking.write_bytes(b"12")
    with pytest.raises(
        ArtifactError, match=rf"1 of 3 files are not there .*part-00001\.parquet \({damage}.*shared disk"
    ):
        made.commit(parts, {}, {})
    assert made.committed() is None


def test_a_file_that_a_shared_disk_shows_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsae_ray.core.artifacts.artifact.SHOWN_AFTER_S", (0.0, 0.3, 0.3))
    made = draft(tmp_path)
    part = made.writer(SCHEMA).write(0, rows(3), 3)
    folder = tmp_path / made.name
    (folder / part.name).rename(tmp_path / "late")
    threading.Timer(0.2, lambda: (tmp_path / "late").rename(folder / part.name)).start()
    assert made.commit([part], {}, {}).record.files == [part]


def test_a_changed_file_is_not_handed_out(tmp_path: Path) -> None:
    made = draft(tmp_path)
    receipt = made.write_file("weights", ".bin", b"a")
    artifact = made.commit([receipt], {}, {})
    made.store.write(receipt.name, b"z")
    with pytest.raises(ArtifactError, match="not the file that the record describes"):
        artifact.file("weights")


def test_the_fingerprint_depends_on_what_and_parents_and_nothing_else() -> None:
    base = fingerprint("s", 1, {"b": 1, "a": 2}, ["p"])
    assert base == fingerprint("s", 1, {"a": 2, "b": 1}, ["p"])
    others = [("t", 1, {"a": 2, "b": 1}, ["p"]), ("s", 2, {"a": 2, "b": 1}, ["p"]), ("s", 1, {"a": 2}, ["p"])]
    assert base not in [fingerprint(*o) for o in others] and base != fingerprint("s", 1, {"a": 2, "b": 1}, ["q"])


def test_two_roots_give_the_same_name(tmp_path: Path) -> None:
    assert draft(tmp_path / "a").name == draft(tmp_path / "b").name


def test_a_record_keeps_its_receipts(tmp_path: Path) -> None:
    record = open_artifact(committed(tmp_path).store.uri).record
    assert all(isinstance(f, Receipt) for f in record.files) and type(record).from_json(record.to_json()) == record
