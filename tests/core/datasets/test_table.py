from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medsae_ray.core.datasets.rows import label_matrix, to_manifest
from medsae_ray.core.datasets.table import TableDataset, table_rows
from medsae_ray.errors import DatasetError
from tests.support.shared import SHARED, needs_shared

CSV = "path,who,Edema,Mass,sex\na.png,p1,1.0,-1,F\nb.png,p1,0, ,M\nc.png,p2,,1,\n"
SHARES = {"sae": 0.6, "naming": 0.2, "detection": 0.2}


def dataset(**changes: object) -> TableDataset:
    given = {
        "kind": "table",
        "name": "d",
        "image": "path",
        "patient": "who",
        "labels": ["Edema", "Mass"],
        "metadata": ["sex"],
    }
    return TableDataset(**{**given, **changes})


def test_labels_are_one_zero_uncertain_or_not_annotated() -> None:
    rows = table_rows(CSV.encode(), "t.csv", dataset())
    assert rows.labels["Edema"].to_pylist() == [1, 0, None] and rows.labels["Mass"].to_pylist() == [-1, None, 1]
    assert rows.metadata["sex"].to_pylist() == ["F", "M", None] and rows.patient_id == ["p1", "p1", "p2"]


def test_parquet_and_csv_agree() -> None:
    table = pa.table(
        {"path": ["a.png"], "who": [7], "Edema": [1.0], "Mass": pa.array([None], pa.float64()), "sex": ["F"]}
    )
    stream = BytesIO()
    pq.write_table(table, stream)
    csv = b"path,who,Edema,Mass,sex\na.png,7,1,,F\n"
    assert table_rows(stream.getvalue(), "t", dataset()) == table_rows(csv, "t", dataset())


def test_policies_say_what_uncertain_and_blank_count_as() -> None:
    manifest = to_manifest(table_rows(CSV.encode(), "t", dataset()), SHARES, "s", 2)
    nan = np.nan
    np.testing.assert_equal(label_matrix(manifest, "ignore", "ignore"), [[1, nan], [0, nan], [nan, 1]])
    np.testing.assert_equal(label_matrix(manifest, "one", "zero"), [[1, 1], [0, 0], [0, 1]])
    np.testing.assert_equal(label_matrix(manifest, "zero", "ignore"), [[1, 0], [0, nan], [nan, 1]])


def test_shards_are_runs_of_rows() -> None:
    assert to_manifest(table_rows(CSV.encode(), "t", dataset()), SHARES, "s", 2)["shard"].to_pylist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("csv", "changes", "message"),
    [
        (CSV, {"image": "pathh"}, "did you mean 'path'"),
        (CSV, {"labels": ["Oedema"]}, "did you mean 'Edema'"),
        (CSV.replace("1.0", "2"), {}, "label column 'Edema' holds another number in data row 1"),
        (CSV.replace("1.0", "maybe"), {}, "label column 'Edema' holds another word in data row 1"),
        (CSV.replace("b.png", "x\\\\b.png"), {}, "column 'path' holds paths with backslashes, first in data row 2"),
        (CSV.replace("b.png", ""), {}, "column 'path' is blank in 1 rows, first in data row 2"),
        (CSV.replace("p2", ""), {}, "column 'who' is blank in 1 rows, first in data row 3"),
        ("", {}, "neither a CSV nor a Parquet"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(csv: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        table_rows(csv.encode(), "t.csv", dataset(**changes))


def test_an_image_listed_twice_is_refused() -> None:
    rows = table_rows(CSV.replace("b.png", "a.png").encode(), "t", dataset())
    with pytest.raises(DatasetError, match=r"1 images are listed more than once, the first as images 1 and 2"):
        to_manifest(rows, SHARES, "s", 2)


def test_a_table_without_rows_is_refused() -> None:
    with pytest.raises(DatasetError, match="has no rows"):
        to_manifest(table_rows(b"path,who,Edema,Mass,sex\n", "t", dataset()), SHARES, "s", 2)


@needs_shared
def test_the_nih_table_is_read() -> None:
    data = (SHARED / "data/nih621/labels.csv").read_bytes()
    changes = {"patient": "patient_id", "labels": ["Cardiomegaly", "Hernia"], "metadata": ["view"]}
    rows = table_rows(data, "labels.csv", dataset(**changes))
    assert len(rows.image_id) == len(set(rows.patient_id)) == 621
