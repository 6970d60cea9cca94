import csv
from pathlib import Path

import pytest

from medsae_ray.core.datasets.chexpert import LABELS, ChexpertDataset, chexpert_rows
from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.errors import DatasetError
from tests.core.datasets.layouts import chexpert


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chexpert(tmp_path_factory.mktemp("chexpert"))


def read(data: bytes, **settings: object) -> Rows:
    return chexpert_rows(data, "train.csv", ChexpertDataset(kind="chexpert", **settings))


def test_labels_are_those_of_the_file(table: Path) -> None:
    rows = read(table.read_bytes(), views="all")
    with table.open() as stream:
        lines = list(csv.DictReader(stream))
    value = {"1.0": 1, "0.0": 0, "-1.0": -1, "": None}
    assert len(lines) == 48 and list(rows.labels) == list(LABELS)
    for name in LABELS:
        assert rows.labels[name].to_pylist() == [value[line[name]] for line in lines]
    assert {-1, None, 0, 1} == set(rows.labels["Edema"].to_pylist())


def test_patient_and_study_come_from_the_path_and_the_releases_name_is_no_part_of_it(table: Path) -> None:
    rows = read(table.read_bytes(), views="all")
    assert rows.patient_id[:4] == ["patient00001"] * 3 + ["patient00002"]
    assert rows.study_id is not None
    assert rows.study_id[:3] == ["patient00001/study1", "patient00001/study1", "patient00001/study2"]
    assert rows.uri[0] == "train/patient00001/study1/view1_frontal.jpg" and (table.parent / rows.uri[0]).is_file()
    full = table.read_bytes().replace(b"CheXpert-v1.0-small/", b"CheXpert-v1.0/")
    assert read(full, views="all").image_id == rows.image_id


def test_views_are_chosen_and_what_is_left_out_is_counted(table: Path) -> None:
    frontal, lateral = read(table.read_bytes()), read(table.read_bytes(), views="lateral")
    assert len(frontal.image_id) == 32 and frontal.notes == {"rows_of_other_views": 16}
    assert all("frontal" in name for name in frontal.image_id) and set(lateral.metadata["view"].to_pylist()) == {
        "Lateral"
    }
    assert lateral.metadata["projection"].to_pylist() == [None] * 16


def test_two_studies_of_a_patient_are_in_one_split(table: Path) -> None:
    shares = {"sae": 0.4, "naming": 0.3, "detection": 0.3}
    manifest = to_manifest(read(table.read_bytes(), views="all"), shares, "s", 16)
    pairs = set(zip(manifest["patient_id"].to_pylist(), manifest["split"].to_pylist(), strict=True))
    assert len(pairs) == 16 and len({split for _, split in pairs}) == 3
    assert manifest.schema.field("study_id").type == "string"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"patient00001", b"case1", "the path in data row 1 does not end in patientNNNNN/studyN/file"),
        (b"Frontal/Lateral", b"View", "has no column 'Frontal/Lateral'"),
        (b",Frontal,", b",Oblique,", "column 'Frontal/Lateral' holds neither Frontal nor Lateral in data row 1"),
        (b"Pleural Other", b"Pleura", "has no column 'Pleural Other'"),
    ],
)
def test_another_file_is_refused(table: Path, old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(table.read_bytes().replace(old, new))
