from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import Paths
from medsae_ray.core.datasets.nih import LABELS, NihDataset, nih_rows
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError
from tests.core.datasets.layouts import nih

HEADER = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"


def rows_of(text: str, **settings: Any) -> Rows:
    return nih_rows((HEADER + text).encode(), "t.csv", {}, NihDataset(kind="nih-cxr14", **settings))


@pytest.mark.parametrize("archives", [True, False])
def test_images_are_found_in_twelve_folders_or_in_one(tmp_path: Path, archives: bool) -> None:
    table = nih(tmp_path, archives=archives)
    rows = NihDataset(kind="nih-cxr14").rows(Paths(table=str(table)))
    assert len(rows.uri) == 48 and all((tmp_path / uri).is_file() for uri in rows.uri)
    assert rows.image_id[:2] == ["00000001_000.png", "00000001_001.png"] and rows.patient_id[:3] == ["1", "1", "2"]


def test_images_that_moved_make_another_manifest(tmp_path: Path) -> None:
    table, dataset = nih(tmp_path), NihDataset(kind="nih-cxr14")
    before = dataset.identity(Paths(table=str(table)))
    (tmp_path / "images_001").rename(tmp_path / "images_099")
    assert dataset.identity(Paths(table=str(table))) != before


def test_an_image_that_is_nowhere_keeps_its_row(tmp_path: Path) -> None:
    table = nih(tmp_path)
    (tmp_path / "images_001/images/00000001_000.png").unlink()
    assert NihDataset(kind="nih-cxr14").rows(Paths(table=str(table))).uri[0] == "00000001_000.png"


def test_findings_are_split_at_bars_and_all_others_are_absent() -> None:
    rows = rows_of("a.png,Mass|Nodule,1,58,M,PA\nb.png,No Finding,2,60,F,AP\n")
    assert {name: rows.labels[name].to_pylist() for name in ("Mass", "Nodule", "No Finding", "Edema")} == {
        "Mass": [1, 0],
        "Nodule": [1, 0],
        "No Finding": [0, 1],
        "Edema": [0, 0],
    }
    assert list(rows.labels) == list(LABELS) and len(LABELS) == 15


@pytest.mark.parametrize(
    ("age", "years"),
    [("058Y", "58"), ("58", "58"), ("013M", "1"), ("005D", "0"), ("000Y", "0"), ("414", None), ("148Y", None)],
)
def test_ages_are_whole_years_and_no_one_is_414(age: str, years: str | None) -> None:
    rows = rows_of(f"a.png,Mass,1,{age},M,PA\n")
    assert rows.metadata["age"].to_pylist() == [years]
    assert rows.notes["ages_not_known"] == (years is None)


def test_both_forms_of_the_table_say_the_same(tmp_path: Path) -> None:
    old, new = nih(tmp_path / "old"), nih(tmp_path / "new", old=False)
    assert old.read_text() != new.read_text()
    dataset = NihDataset(kind="nih-cxr14", views="PA")
    assert dataset.rows(Paths(table=str(old))) == dataset.rows(Paths(table=str(new)))
    assert len(dataset.rows(Paths(table=str(new))).uri) == 24


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png,Mass|Fluid,1,58,M,PA\n", "finding of column 'Finding Labels' in data row 1 is none of Atelectasis"),
        ("a.png,Mass,1,old,M,PA\n", "column 'Patient Age' holds no age in data row 1; ages are 58 or 058Y"),
        ("a.png,Mass,,58,M,PA\n", "column 'Patient ID' is blank in 1 rows, first in data row 1"),
    ],
)
def test_a_row_that_the_dataset_cannot_have_is_refused(line: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        rows_of(line)
