import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medsae_ray.core.judgements.export import exported, form_of
from medsae_ray.core.judgements.record import from_line
from medsae_ray.errors import JudgementError
from tests.core.judgements.made import judgement

GIVEN = [
    judgement(1, blind=True, study="pilot", reason='a "quoted", text'),
    judgement(2, kind="note", value="=HYPERLINK(evil)"),
    judgement(3, kind="not_a_finding", value=None, name=None),
]


def test_each_form_has_every_judgement_and_field() -> None:
    assert [from_line(line) for line in exported(GIVEN, "jsonl").splitlines()] == GIVEN
    table = pq.read_table(pa.BufferReader(exported(GIVEN, "parquet")))
    assert [type(one)(**row) for one, row in zip(GIVEN, table.to_pylist(), strict=True)] == GIVEN
    rows = list(csv.DictReader(io.StringIO(exported(GIVEN, "csv").decode())))
    assert [row["feature"] for row in rows] == ["1", "2", "3"] and rows[0]["reason"] == 'a "quoted", text'
    assert rows[1]["value"] == "'=HYPERLINK(evil)" and rows[2]["value"] == "" and rows[0]["blind"] == "True"


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_no_judgements_are_an_empty_file_of_the_form(form: str) -> None:
    assert isinstance(exported([], form_of(f"a/B.{form.upper()}")), bytes)


def test_a_file_of_another_form_is_refused() -> None:
    with pytest.raises(JudgementError, match=r"none of \.csv, \.jsonl, \.parquet"):
        form_of("votes.xlsx")
