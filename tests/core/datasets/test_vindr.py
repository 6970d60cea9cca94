import csv
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.vindr import VindrDataset, vindr_rows
from medsae_ray.errors import DatasetError
from tests.core.datasets.layouts import VINDR, vindr

TRAIN = "image_id,rad_id,Cardiomegaly,No finding\n"


def rows_of(text: str, **settings: Any) -> Rows:
    return vindr_rows(text.encode(), "t.csv", VindrDataset(kind="vindr-cxr", **settings))


@pytest.mark.parametrize(("votes", "needed"), [("majority", 2), ("any", 1)])
def test_readings_become_labels_by_the_chosen_rule(tmp_path: Path, votes: str, needed: int) -> None:
    table = vindr(tmp_path)
    count: dict[tuple[str, str], int] = defaultdict(int)
    with table.open() as stream:
        for line in csv.DictReader(stream):
            for name in VINDR:
                count[line["image_id"], name] += int(line[name])
    rows = rows_of(table.read_text(), votes=votes)
    assert len(rows.image_id) == 48 and rows.notes == {"votes": votes, "readings": 144}
    for name in VINDR:
        assert rows.labels[name].to_pylist() == [int(count[image, name] >= needed) for image in rows.image_id]


def test_half_of_the_readers_are_no_majority() -> None:
    text = TRAIN + "a,R1,1,0\na,R2,0,1\n"
    assert rows_of(text).labels["Cardiomegaly"].to_pylist() == [0]
    assert rows_of(text, votes="any").labels["Cardiomegaly"].to_pylist() == [1]


def test_every_image_is_a_patient_and_the_rows_say_so(tmp_path: Path) -> None:
    rows = rows_of(vindr(tmp_path).read_text(), suffix=".png")
    assert rows.patient_id == rows.image_id and not rows.patients_known
    assert all((tmp_path / "train" / uri).is_file() for uri in rows.uri)


def test_the_consensus_of_the_test_set_is_read_as_it_is() -> None:
    rows = rows_of("image_id,Other disease,No finding\na,1,0\nb,0,1\n")
    assert rows.labels["Other disease"].to_pylist() == [1, 0] and rows.uri == ["a.dicom", "b.dicom"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TRAIN + "a,R1,1,0\na,R1,0,1\n", "1 rows repeat an image of the same reader"),
        ("image_id,No finding\na,0\na,0\n", "1 rows repeat an image$"),
        (TRAIN + "a,R1,,0\n", "label column 'Cardiomegaly' holds blanks or -1"),
        (TRAIN + "a,R1,-1,0\n", "label column 'Cardiomegaly' holds blanks or -1"),
        ("image_id,rad_id,class_name,x_min\na,R1,Mass,3\n", "has no column 'No finding'"),
    ],
)
def test_another_file_is_refused(text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        rows_of(text)
