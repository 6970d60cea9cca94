import gzip
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import Paths
from medsae_ray.core.datasets.mimic import MimicDataset
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError
from tests.core.datasets.layouts import mimic


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return mimic(tmp_path).parent


def read(folder: Path, split: bool = True, **settings: Any) -> Rows:
    of = {key: str(folder / f"mimic-cxr-2.0.0-{name}.csv.gz") for key, name in NAMES.items() if split or key != "split"}
    return MimicDataset(kind="mimic-cxr-jpg", **settings).rows(Paths(**of))


NAMES = {"table": "chexpert", "metadata": "metadata", "split": "split"}


def change(folder: Path, name: str, old: str, new: str) -> None:
    file = folder / f"mimic-cxr-2.0.0-{name}.csv.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()).decode().replace(old, new).encode()))


def test_images_lie_where_the_dataset_has_them(folder: Path) -> None:
    rows = read(folder, views="all")
    assert len(rows.uri) == 48 and all((folder / uri).is_file() for uri in rows.uri)
    assert rows.patient_id[:5] == ["p10000032"] * 4 + ["p10001032"]
    assert rows.study_id is not None and rows.study_id[:3] == ["s50414267", "s50414267", "s50414268"]


def test_labels_of_a_study_are_those_of_all_its_images(folder: Path) -> None:
    rows = read(folder, views="all")
    table = gzip.decompress((folder / "mimic-cxr-2.0.0-chexpert.csv.gz").read_bytes()).decode().splitlines()
    edema = table[0].split(",").index("Edema")
    value = {"1.0": 1, "0.0": 0, "-1.0": -1, "": None}
    expected = [value[line.split(",")[edema]] for line in table[1:] for _ in range(2)]
    assert rows.labels["Edema"].to_pylist() == [*expected, None, None]
    assert rows.notes == {"rows_left_out": 0, "images_of_studies_without_labels": 2}


def test_views_are_chosen_by_view_position(folder: Path) -> None:
    assert read(folder).metadata["view"].to_pylist() == ["PA", "AP"] * 12
    assert read(folder, views="lateral").metadata["view"].to_pylist() == ["LATERAL"] * 12
    assert set(read(folder, views="all").metadata["view"].to_pylist()) == {"PA", "LATERAL", "AP", None}


def test_a_part_of_the_published_split_is_chosen(folder: Path) -> None:
    rows = read(folder, part="validate")
    assert set(rows.metadata["official_split"].to_pylist()) == {"validate"} and len(rows.uri) == 8
    assert "official_split" not in read(folder, split=False).metadata
    with pytest.raises(DatasetError, match=r"part 'test' of mimic-cxr-jpg needs how\.paths\.split"):
        read(folder, split=False, part="test")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        ("metadata", "ViewPosition", "View", "has no column 'ViewPosition'"),
        ("metadata", "5041", "6041", "no study of .*metadata.* is in .*chexpert"),
        ("chexpert", "50414268", "50414267", "a study_id comes twice"),
        ("split", "validate", "valid", r"column 'split' has no 'validate' among its 3 values"),
    ],
)
def test_files_that_do_not_fit_are_refused(folder: Path, name: str, old: str, new: str, message: str) -> None:
    change(folder, name, old, new)
    with pytest.raises(DatasetError, match=message):
        read(folder, part="validate")


def test_half_a_download_is_refused(folder: Path) -> None:
    file = folder / "mimic-cxr-2.0.0-metadata.csv.gz"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(DatasetError, match="is not a whole gzip file"):
        read(folder)
