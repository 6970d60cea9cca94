"""Text tables as programs write them: the same table whatever the separator, encoding and line ends."""

import csv
import gzip
import io
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.datasets.columns import column, read_table
from medsae_ray.core.datasets.delimited import TableForm
from medsae_ray.core.datasets.vindr import VindrDataset, vindr_rows
from medsae_ray.errors import DatasetError
from tests.support.planted import NAME, marked

ROWS = [["path", "who", "Ödem"], ["a b.png", "p1", "1"], ["c,d;e.png", "p2", "0"], ["f\ng.png", "p3", ""]]
TEXT = "path,who,Ödem\na.png,p1,1\nb.png,p2,0\n"
TABLE = {"path": ["a.png", "b.png"], "who": ["p1", "p2"], "Ödem": ["1", "0"]}


def written(rows: list[list[str]], separator: str = ",", ends: str = "\n") -> str:
    stream = io.StringIO(newline="")
    csv.writer(stream, delimiter=separator, lineterminator=ends, quoting=csv.QUOTE_ALL).writerows(rows)
    return stream.getvalue()


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_separators_and_line_ends_do_not_matter(separator: str, ends: str) -> None:
    table = read_table(written(ROWS, separator, ends).encode(), "t.csv")
    assert table.to_pylist() == [dict(zip(ROWS[0], (cell or None for cell in row), strict=True)) for row in ROWS[1:]]
    plain = ends.join(separator.join(row) for row in ROWS[:2])
    assert read_table(plain.encode(), "t.csv").to_pylist() == table.to_pylist()[:1]


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\x1e"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(cells, min_size=3, max_size=3), min_size=1, max_size=8), st.sampled_from(",;\t|"))
def test_any_cell_comes_back(rows: list[list[str]], separator: str) -> None:
    text = written([["path", "who", "note"], *rows], separator)
    read = read_table(text.encode(), "t.csv", TableForm(separator)).to_pylist()
    assert [list(row.values()) for row in read] == [[cell or None for cell in row] for row in rows]


ENCODINGS: list[Callable[[str], bytes]] = [
    lambda text: text.encode(),
    lambda text: text.encode("utf-8-sig"),
    lambda text: text.encode("utf-16"),
    lambda text: "\ufeff".encode("utf-16-be") + text.encode("utf-16-be"),
    lambda text: text.encode("utf-32"),
    lambda text: gzip.compress(text.encode()),
    lambda text: gzip.compress(("sep=,\r\n" + text).encode("utf-16")),
    lambda text: ("\n\n" + text.strip()).encode(),
]


@pytest.mark.parametrize("encode", ENCODINGS)
def test_encodings_that_are_certain_are_read(encode: Callable[[str], bytes]) -> None:
    assert read_table(encode(TEXT), "t.csv").to_pydict() == TABLE


def test_zero_bytes_show_utf_16() -> None:
    for encoding in ("utf-16-le", "utf-16-be"):
        assert read_table(TEXT.replace("Ödem", "E").encode(encoding), "t").column_names == ["path", "who", "E"]
    with pytest.raises(DatasetError, match=r"zero bytes\. If it is UTF-16, save it as UTF-8"):
        read_table(b"path,who\na\0,b\n", "t")


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp1250"])
def test_an_encoding_that_is_not_certain_is_refused_with_what_to_do(encoding: str) -> None:
    data = ("path,who,note\na.png,p1,x\n" + f"b.png,p2,{NAME} Ödem\n").encode(encoding)
    with pytest.raises(DatasetError, match=r"no UTF-8 text: .* in line 3\. .*Windows-1252 or Latin-1: save it") as said:
        read_table(data, "t.csv")
    assert "`encoding`" not in str(said.value) and not marked(str(said.value))
    with pytest.raises(DatasetError, match="or say its encoding in the dataset's `encoding`"):
        read_table(data, "t.csv", TableForm(options=True))
    assert read_table(data, "t.csv", TableForm(encoding=encoding, options=True))["note"][1].as_py() == f"{NAME} Ödem"


def test_an_unknown_separator_is_thought_of_where_there_is_one_column() -> None:
    with pytest.raises(DatasetError, match="no column 'path'; no name of its 1 columns is like it; is it divided by"):
        column(read_table(b"path:who\na:p\n", "t"), "path", "t")
    with pytest.raises(DatasetError, match="its 2 columns is like it; is it divided by ';'"):
        column(read_table(b"path;no,te\na;b,c\n", "t"), "path", "t")


@pytest.mark.parametrize("first", ["sep=;\n", "sep=;\r\n", '"sep=;"\r', "\ufeff\ufeffSEP=;\n\n"])
def test_excels_first_line_says_the_separator(first: str) -> None:
    table = read_table(f"{first}path;no,te\na,b;c,d\n".encode(), "t")
    assert table.to_pydict() == {"path": ["a,b"], "no,te": ["c,d"]}


@pytest.mark.parametrize(("rows", "length"), [(20_000, 60), (40, 200_000), (1, 3_000_000)])
def test_newlines_in_quotes_are_read_at_any_size(rows: int, length: int) -> None:
    report = "FINDINGS:\nclear lungs,\r\n" + "x" * length
    text = "path,who,E,report\n" + "".join(f'i{n}.png,p{n},1,"{report}"\n' for n in range(rows))
    table = read_table(text.encode(), "t.csv")
    assert (
        table.num_rows == rows and table["report"][-1].as_py() == report and table["path"][-1].as_py().startswith("i")
    )


def test_another_separator_within_cells_or_names_does_not_mislead() -> None:
    assert read_table(b"path\tage, years\tE\na;b|c\t3\t1\nd\t4\t0\n", "t").column_names == ["path", "age, years", "E"]
    assert read_table(b"path,Mass|Nodule\na,x|y\nb,z|w\n", "t").column_names == ["path", "Mass|Nodule"]
    assert read_table(b"path;E\na;1,0\nb;0,0\n", "t").column_names == ["path", "E"]
    assert read_table(b"path\na.png\nb.png\n", "t")["path"].to_pylist() == ["a.png", "b.png"]
    assert read_table(b"path:E\na:1\n", "t", TableForm(":")).column_names == ["path", "E"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"path,who\n{NAME},p\n\n{NAME},p,{NAME}\n",
            "Expected 2 columns, got 3 in data row 2; .* comma in it needs quotes",
        ),
        (f"path;who\n{NAME};p\n{NAME}\n", "Expected 2 columns, got 1 in data row 2; .* semicolon"),
        (f'path,who\na,p\n"{NAME},p\nb,q\n', "a quote that opens in data row 2 is never closed"),
        (f'path,who\na,"{NAME}', "a quote that opens in data row 1 is never closed"),
        (f'path,"who\n{NAME},p\n', "a quote that opens in the header is never closed"),
        (" \n", "it is empty"),
    ],
)
def test_what_is_ragged_or_never_ends_is_named_by_its_row(text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as said:
        read_table(text.encode(), "t.csv")
    assert not marked(str(said.value))


def test_names_lose_the_space_around_and_columns_without_a_name_are_left_out() -> None:
    table = read_table(b",\xc2\xa0path , who,E ,\n0,a,p,1,\n1,b,q,0,\n", "t")
    assert table.column_names == ["path", "who", "E"] and table["E"].to_pylist() == ["1", "0"]
    sink = io.BytesIO()
    pq.write_table(pa.table({" path": ["a"], "": [0], "__index_level_0__": [1]}), sink)
    assert read_table(sink.getvalue(), "t").to_pydict() == {"path": ["a"]}


def test_an_index_column_is_no_label_of_vindr() -> None:
    text = ",Unnamed: 0,image_id,rad_id,Mass,No finding\n0,0,a,R1,1,0\n1,1,b,R1,0,1\n2,2,c,R1,0,1\n3,3,d,R1,0,1\n"
    rows = vindr_rows(text.encode(), "t.csv", VindrDataset(kind="vindr-cxr"))
    assert list(rows.labels) == ["Mass", "No finding"] and rows.notes["columns_left_out"] == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PK\x03\x04\x14\0[Content_Types].xml..xl/workbook.xml", r"an Excel workbook, .*: save its sheet as CSV"),
        (
            b"PK\x03\x04\x14\0mimetypeapplication/vnd.oasis.opendocument.spreadsheet",
            "a spreadsheet, .*: save its sheet",
        ),
        (b"PK\x03\x04\x14\0a.csv", "a zip archive, .*: unpack it"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0\0", "an old Excel workbook, .*: save its sheet as CSV"),
        (b"BZh91AY&SY\xd9\0", "a bzip2 archive"),
        (b"\xfd7zXZ\0\0", "an xz archive"),
        (b"ARROW1\0\0", "a Feather file, .*: save it as Parquet or CSV"),
        (b"\x89PNG\r\n\x1a\n\0", "an image"),
        (b"\n<!DOCTYPE html><html>", "a web page, .*: the site may want you to log in"),
        (b'[{"path": "a.png"}]', "a JSON file"),
        (b"<?xml version='1.0'?><Workbook/>", "an XML file"),
        (b"\x80\x04\x95\x00\x00", "a pickle"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a placeholder of Git LFS"),
        (b"PAR1" + b"\0" * 40, "begins as a Parquet file and is none"),
        (gzip.compress(TEXT.encode())[:-9], "not a whole gzip file"),
    ],
)
def test_another_kind_of_file_is_called_by_its_name(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read_table(data, "t")


def test_a_text_may_begin_like_another_kind_of_file() -> None:
    assert read_table(b"FEA1,bzh\n1,2\n", "t").column_names == ["FEA1", "bzh"]
