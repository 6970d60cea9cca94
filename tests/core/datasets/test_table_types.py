"""Columns of odd types and names: taken as they are meant, or refused by name."""

import math
from io import BytesIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.table import TableDataset, table_rows
from medsae_ray.errors import DatasetError


def read(**columns: object) -> Rows:
    stream = BytesIO()
    pq.write_table(pa.table({"path": ["a", "b"], "who": ["p", "q"], "E": [1, 0], **columns}), stream)
    return rows_of(stream.getvalue())


def rows_of(data: bytes) -> Rows:
    return table_rows(data, "t", TableDataset(kind="table", name="d", image="path", patient="who", labels=["E"]))


@pytest.mark.parametrize(
    ("patients", "expected"),
    [
        ([" p1", "p1\t"], ["p1", "p1"]),
        ([1.0, 2e7], ["1", "20000000"]),
        (pa.array(["p", "q"]).dictionary_encode(), ["p", "q"]),
        (pa.array(["p", "q"], pa.large_string()), ["p", "q"]),
        (["\u00e9", "e\u0301 "], ["\u00e9", "\u00e9"]),
    ],
)
def test_a_patient_is_the_same_text_in_whatever_form(patients: object, expected: list[str]) -> None:
    assert read(who=patients).patient_id == expected


@pytest.mark.parametrize("patients", [[1.0, math.nan], ["p", "  "], ["p", None]])
def test_a_patient_who_is_not_given_is_refused(patients: object) -> None:
    with pytest.raises(DatasetError, match="column 'who' is blank in 1 rows, first in data row 2"):
        read(who=patients)


@pytest.mark.parametrize("nobody", ["nan", "NA", "<NA>", "None", "NULL ", "unknown"])
def test_a_word_for_nobody_is_no_patient(nobody: str) -> None:
    with pytest.raises(DatasetError, match=r"column 'who' says NA, nan, .* in 1 rows, first in data row 2"):
        read(who=["p", nobody])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"path": [b"\xff\xd8\xff", b"b"]}, "column 'path' cannot be read as text: it holds binary"),
        ({"path": ["a", " "]}, "column 'path' is blank in 1 rows, first in data row 2"),
        ({"E": pa.array([0, 0], pa.timestamp("s"))}, "label column 'E' is not numeric and no text"),
        ({"who": [["p"], ["q"]]}, "column 'who' cannot be read as text"),
    ],
)
def test_a_type_that_cannot_be_meant_is_refused(columns: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(**columns)


def test_a_column_that_comes_twice_is_refused() -> None:
    with pytest.raises(DatasetError, match="t has 2 columns 'who'"):
        rows_of(b"path,who,who,E\na,p,q,1\n")


def test_bools_and_empty_columns_are_labels() -> None:
    assert read(E=[True, False]).labels["E"].to_pylist() == [1, 0]
    assert read(E=pa.nulls(2)).labels["E"].to_pylist() == [None, None]
