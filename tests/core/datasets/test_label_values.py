"""Labels as people write them, and what else is refused."""

import decimal
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.core.datasets.table import TableDataset, table_rows
from medsae_ray.errors import DatasetError, RecipeError
from tests.support.planted import NAME, marked


def labels(cells: object, values: dict[str, Any] | None = None) -> list[int | None]:
    """Of a Parquet table with this column."""
    sink = BytesIO()
    column = pa.array(cells) if isinstance(cells, list) else cells
    pq.write_table(pa.table({"path": [f"{n}.png" for n in range(len(column))], "E": column}), sink)
    dataset = TableDataset(kind="table", name="d", image="path", labels=["E"], values=values or {})
    return list(table_rows(sink.getvalue(), "t", dataset).labels["E"].to_pylist())


def of_csv(*cells: str, values: dict[str, Any] | None = None) -> list[int | None]:
    text = "path;E\n" + "".join(f"{n}.png;{cell}\n" for n, cell in enumerate(cells))
    dataset = TableDataset(kind="table", name="d", image="path", labels=["E"], values=values or {})
    return list(table_rows(text.encode(), "t", dataset).labels["E"].to_pylist())


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (("1", "1.0", "+1", "1e0", "1,0", " 1 ", "True", "TRUE", "t", "yes", "Y", "Present", "positive", "POS"), 1),
        (("0", "0.0", "-0", "0,00", "False", "f", "No", "n", "absent", "Negative", "neg"), 0),
        (("-1", "-1.0", "-1,0", "Uncertain"), -1),
        (("", " ", "NA", "n/a", "#N/A", "nan", "NaN", "None", "null", "Unknown", "not  mentioned", "<NA>"), None),
    ],
)
def test_words_mean_what_they_say(words: tuple[str, ...], value: int | None) -> None:
    assert of_csv(*words) == [value] * len(words)
    assert labels(list(words)) == [value] * len(words)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False, None]),
        pa.array([1, 0, None], pa.uint8()),
        pa.array([1, 0, float("nan")]),
        pa.array([decimal.Decimal("1.00"), decimal.Decimal("0.00"), None]),
        pa.array(["yes", "no", None]).dictionary_encode(),
        pa.array([1, 0, None]).dictionary_encode(),
        pa.array(["True", "False", ""], pa.large_string()),
        pa.array(["True", "False", ""], pa.string_view()),
        pa.array([b"1", b"0", b""]),
    ],
)
def test_a_label_is_the_same_in_whatever_type(column: pa.Array) -> None:
    assert labels(column) == [1, 0, None]


@pytest.mark.parametrize("word", ["maybe", "2", "0.5", "1,000", "0,5", "1 0", "inf", "-", "on", NAME, "1_0"])
def test_another_word_is_refused_by_its_place(word: str) -> None:
    with pytest.raises(
        DatasetError, match=r"column 'E' holds another (word|number) in data row 3; allowed are 1, 0"
    ) as e:
        of_csv("1", "", word, "0")
    assert "`values`" in str(e.value) and not marked(str(e.value))


def test_values_say_what_other_words_mean_and_go_first() -> None:
    values = {"Maybe": -1, "2": 1, "1": 0, "99": None, "no  finding": 0}
    assert of_csv("maybe", "2.0", "1", "99", "No Finding", "true", values=values) == [-1, 1, 0, None, 0, 1]
    assert labels([2, 1, 99], values) == [1, 0, None]
    assert labels([1, None, -1], {"": 0}) == [1, 0, -1]


def recipe(**dataset: Any) -> TableDataset:
    given = {"kind": "table", "name": "d", "image": "path", "labels": ["E"], **dataset}
    what = {"dataset": given, "encoder": {"kind": "onnx", "size": 16}}
    paths = {"table": "t.csv", "weights": "e.onnx"}
    found = parse_recipe({"name": "r", "what": what, "how": {"paths": paths}}).what.dataset
    assert isinstance(found, TableDataset)
    return found


@pytest.mark.parametrize("values", [{"Yes": 1, "yes ": 0}, {"9": 1, "9.0": None}])
def test_a_word_has_one_meaning_in_all_its_spellings(values: dict[str, int | None]) -> None:
    with pytest.raises(DatasetError, match="two meanings"):
        labels(["yes"], values)
    assert labels(["yes"], {"Yes": 0, "yes": 0}) == [0]


def test_numbers_may_be_keys_and_words_that_yaml_takes_need_quotes() -> None:
    assert recipe(values={9: None, "x": 1}).values == {"9": None, "x": 1}
    with pytest.raises(RecipeError, match="needs quotes"):
        recipe(values={True: 1})
    with pytest.raises(RecipeError, match=r"values\.x"):
        recipe(values={"x": 2})
    with pytest.raises(RecipeError, match="'E' is listed twice"):
        recipe(labels=["E", "F", "E"])
    with pytest.raises(RecipeError, match="'cp9999' is no encoding"):
        recipe(encoding="cp9999")


def test_backslashes_are_refused_in_names_and_allowed_in_uris() -> None:
    dataset = TableDataset(kind="table", name="d", image="path", labels=["E"])
    with pytest.raises(DatasetError, match="paths with backslashes, first in data row 2; write them with /"):
        table_rows(b"path,E\na.png,1\nimages\\b.png,0\n", "t", dataset)
    assert table_rows(b"path,E\ns3://b/a\\b.png,1\n", "t", dataset).uri == ["s3://b/a\\b.png"]
