"""A folder of DICOM files from disk to manifest to embeddings."""

import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsae_ray.config import Paths, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.dicom import DicomDataset
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError
from medsae_ray.pipeline import run_stage
from tests.support.hostile_files import nested_zip, zipped
from tests.support.medical import dicom, dicom_folder, ramp
from tests.support.usual import reading

LABELS = ["bright", "left"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return dicom_folder(tmp_path_factory.mktemp("dicom"))


def rows(folder: Path, table: Path | None = None, **changes: Any) -> Rows:
    dataset = DicomDataset(**{"kind": "dicom", "name": "d", **changes})
    return dataset.rows(Paths(images=str(folder), table=table and str(table)))


def identity(folder: Path, **changes: Any) -> dict[str, Any]:
    return DicomDataset(**{"kind": "dicom", "name": "d", **changes}).identity(Paths(images=str(folder)))


def stage(folder: Path, root: Path, name: str) -> Artifact:
    dataset = {"kind": "dicom", "name": "d", "labels": LABELS}
    paths = {"images": str(folder), "table": str(folder / "labels.csv"), "weights": "builtin:phantom-encoder"}
    what = {"dataset": dataset, "shard_rows": 20, "encoder": {"kind": "medclip-vit"}}
    return run_stage(
        parse_recipe({"name": "t", "what": what, "how": {"engine": "loop", "paths": paths}}), str(root), name
    )


def test_a_folder_goes_to_embeddings(folder: Path, tmp_path: Path) -> None:
    manifest, embeddings = (stage(folder, tmp_path, name) for name in ("manifest", "embeddings"))
    table = manifest.table()
    assert embeddings.record.rows == table.num_rows == 48 and embeddings.record.not_ok == {}
    splits = {(row["patient_id"], row["split"]) for row in table.to_pylist()}
    assert len(splits) == len({patient for patient, _ in splits}) == 12
    assert manifest.record.metrics["audit"]["patients_in_two_splits"] == 0
    assert manifest.record.metrics["notes"]["passed_over"] == {"not_an_image": 1}  # the table of labels
    assert np.isfinite(embeddings.table()["x"].combine_chunks().flatten().to_numpy()).all()


def test_labels_are_joined_by_instance_or_path(folder: Path, tmp_path: Path) -> None:
    by_instance = rows(folder, folder / "labels.csv", labels=LABELS)
    given = (folder / "labels.csv").read_text().splitlines()[1:]
    assert [
        f"1.2.3.4.{n + 1},{b},{left}" for n, (b, left) in enumerate(zip(*by_instance.labels.values(), strict=True))
    ] == given
    lines = [f"./p{n // 4:03d}/i{n % 4}.dcm,{line.split(',', 1)[1]}" for n, line in enumerate(given[:30])]
    table = tmp_path / "paths.csv"
    table.write_text("\n".join(["file,bright,left", *lines]))
    by_path = rows(folder, table, labels=LABELS, join="file", join_by="path")
    assert (
        by_path.labels["left"][:30] == by_instance.labels["left"][:30] and by_path.labels["left"][30:].null_count == 18
    )


def test_a_table_that_has_none_of_the_images_is_refused(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no image of the dataset is in column 'SOPInstanceUID'"):
        rows(folder, folder / "labels.csv", labels=LABELS, join_by="path")
    with pytest.raises(DatasetError, match="needs how"):
        rows(folder, labels=LABELS)


def test_identifiers_are_hashed_unless_asked_otherwise(folder: Path) -> None:
    found = rows(folder)
    assert found.patient_id[0] == "PAT0" and found.image_id[0] == "1.2.3.4.1" and len(set(found.patient_id)) == 12
    data = {"name": "x", "what": {"dataset": {"kind": "dicom", "name": "d"}, "encoder": {"kind": "medclip-vit"}}}
    how = {"how": {"paths": {"images": str(folder)}}}
    assert parse_recipe(data | how).what.hashed == ["d"]
    plain = {"what": data["what"] | {"privacy": {"hash_ids": False}}}  # type: ignore[operator]
    assert parse_recipe(data | how | plain).what.hashed == []


def test_the_identity_goes_with_the_content_not_the_place(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "moved"
    shutil.copytree(folder, copy)
    assert identity(copy) == identity(folder)
    (copy / "p000" / "i0.dcm").write_bytes(dicom(ramp(), patient="PAT0", number=1, PatientSex="M"))
    changed = identity(copy)
    assert changed != identity(folder)
    (copy / "p000" / "i0.dcm").rename(copy / "p000" / "j0.dcm")
    assert identity(copy) not in (changed, identity(folder))


def test_archives_are_entered(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "a" / "b.zip"
    archive.parent.mkdir()
    members = {f"x/{n}.dcm": dicom(ramp(0, 99 + n), patient=f"Z{n}", number=n) for n in range(3)}
    inner = {"inner.zip": zipped({"y.dcm": dicom(ramp(0, 5), patient="Z9", number=9)}), "note.txt": b"hello"}
    archive.write_bytes(zipped(members | inner))
    found = rows(tmp_path)
    assert found.uri == [
        "a/b.zip!/inner.zip!/y.dcm#frame=0",
        *(f"a/b.zip!/x/{n}.dcm#frame=0" for n in range(3)),
    ]
    images = dict(reading().images(Store(str(tmp_path)), found.uri))
    plain = reading().images(Store(str(folder)), ["p000/i0.dcm#frame=0"])
    assert all(np.ptp(np.asarray(image)) == 255 for image in images.values()) and len(list(plain)) == 1
    assert found.notes["passed_over"] == {"not_an_image": 1}


def test_frames_are_rows(tmp_path: Path) -> None:
    (tmp_path / "m.dcm").write_bytes(dicom(np.stack([ramp(0, 9), ramp(0, 99)]), NumberOfFrames=2))
    found = rows(tmp_path)
    assert found.image_id == ["1.2.3.4.1-00000", "1.2.3.4.1-00001"] and found.uri[1] == "m.dcm#frame=1"
    assert len(set(found.patient_id)) == 1


def test_what_is_no_image_is_counted(tmp_path: Path) -> None:
    (tmp_path / "good.dcm").write_bytes(dicom(ramp()))
    (tmp_path / "again.dcm").write_bytes(dicom(ramp()))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "report.dcm").write_bytes(dicom(ramp(), number=2, Rows=None))
    (tmp_path / "deep.zip").write_bytes(nested_zip(b"", 4))
    (tmp_path / "up.zip").write_bytes(zipped({"../x.dcm": dicom(ramp(), number=3)}))
    (tmp_path / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.dcm")
    found = rows(tmp_path)
    assert found.uri == ["again.dcm#frame=0"]
    assert found.notes["passed_over"] == {
        "duplicate": 1,
        "link_loop": 1,
        "no_pixels": 1,
        "not_a_file": 1,
        "not_an_image": 1,
        "too_deep": 1,
        "unsafe_name": 1,
    }


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """Five files of one SOPInstanceUID: three images, one of them also in an archive and once more; and one apart."""
    images = [dicom(ramp(0, 1000 + 500 * n), number=7) for n in range(3)]
    for number, data in enumerate(images):
        (tmp_path / f"s{number}.dcm").write_bytes(data)
    (tmp_path / "copy.dcm").write_bytes(images[1])
    (tmp_path / "z.zip").write_bytes(zipped({"s2.dcm": images[2]}))
    (tmp_path / "own.dcm").write_bytes(dicom(ramp(), number=8))
    (tmp_path / "labels.csv").write_text("SOPInstanceUID,bright\n1.2.3.4.7,1\n1.2.3.4.8,1\n")
    return tmp_path


def test_images_of_other_pixels_stay_apart_though_they_share_a_uid(shared: Path) -> None:
    found = rows(shared)
    assert found.uri == [f"{name}.dcm#frame=0" for name in ("copy", "own", "s0", "s2")]
    assert len(set(found.image_id)) == 4 and found.image_id[1] == "1.2.3.4.8"
    assert all(found.image_id[n].startswith("1.2.3.4.7-") for n in (0, 2, 3))
    assert found.notes["shared_uids"] == {"uids": 1, "files": 3}
    assert found.notes["passed_over"] == {"duplicate": 2, "not_an_image": 1}
    (shared / "s0.dcm").rename(shared / "zz.dcm")
    assert set(rows(shared).image_id) == set(found.image_id)


def test_a_label_of_a_shared_uid_is_of_no_image(shared: Path) -> None:
    assert rows(shared, shared / "labels.csv", labels=["bright"]).labels["bright"].to_pylist() == [None, 1, None, None]
    (shared / "own.dcm").unlink()
    with pytest.raises(DatasetError, match="all images share their SOPInstanceUID"):
        rows(shared, shared / "labels.csv", labels=["bright"])
    (shared / "paths.csv").write_text("file,bright\ns0.dcm,1\ns2.dcm,0\n")
    by_path = rows(shared, shared / "paths.csv", labels=["bright"], join="file", join_by="path")
    assert by_path.labels["bright"].to_pylist() == [None, 1, 0]


def test_the_identity_goes_with_the_pixels_of_a_shared_uid(shared: Path) -> None:
    before = identity(shared)
    (shared / "s0.dcm").write_bytes(dicom(ramp(0, 1001), number=7))
    assert identity(shared) != before


def test_without_a_patient_the_study_is_one(tmp_path: Path) -> None:
    for number, patient in enumerate(("A", "", "")):
        data = dicom(ramp(), patient=patient or "B", number=number, PatientID=patient)
        (tmp_path / f"{number}.dcm").write_bytes(data)
    found = rows(tmp_path)
    assert not found.patients_known and len(set(found.patient_id)) == 2 and found.notes["files_without_patient"] == 2


def test_only_the_folders_that_are_named_are_read(folder: Path) -> None:
    assert len(rows(folder, folders=["p001", "p002/."]).uri) == 8
    with pytest.raises(DatasetError, match="there is no folder 'p999'"):
        rows(folder, folders=["p999"])
    with pytest.raises(DatasetError, match="no DICOM image among the files"):
        rows(Path(__file__).parent)


def test_a_large_header_is_read_in_the_second_attempt(tmp_path: Path) -> None:
    stream = io.BytesIO(dicom(ramp()))
    data = stream.getvalue()
    at = data.index(b"\x28\x00\x02\x00")
    block = b"\x09\x00\x01\x10UN\0\0" + np.uint32(2**18).tobytes() + bytes(2**18)
    (tmp_path / "large.dcm").write_bytes(data[:at] + block + data[at:])
    assert rows(tmp_path).image_id == ["1.2.3.4.1"]


def test_a_folder_may_be_elsewhere(folder: Path) -> None:
    """Any store has the rows that the disk has, but for links."""
    store = Store("memory://archive")
    for file in folder.rglob("*.dcm"):
        store.write(str(file.relative_to(folder)), file.read_bytes())
    store.write("z/b.zip", zipped({"x.dcm": dicom(ramp(), patient="Z", number=999)}))
    dataset, paths = DicomDataset(kind="dicom", name="d", folders=["."]), Paths(images=store.uri)
    found = dataset.rows(paths)
    assert found.uri == [*rows(folder).uri, "z/b.zip!/x.dcm#frame=0"]
    assert all(not isinstance(image, Exception) for _, image in reading().images(store, found.uri[-1:]))
    of_folder = replace(dataset, folders=["p003"]).rows(paths)
    assert len(of_folder.uri) == 4
