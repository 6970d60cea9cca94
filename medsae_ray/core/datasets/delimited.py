"""Tables as text: from a file's bytes, in whatever encoding and with whatever separator, to columns of strings.

What is certain is read, and what is not is refused with what to do: a wrong guess would be a wrong table.

| of | is taken |
|---|---|
| encoding | UTF-8; UTF-16 and UTF-32 by the mark at their start, UTF-16 also by its zero bytes |
| separator | that of Excel's first line `sep=;`; else , ; tab or | , whichever cuts the header and the rows alike |
| line ends | LF, CR LF or CR, also within quotes, in rows of any length |
"""

import codecs
import csv
import io
import re
from typing import NamedTuple

import pyarrow as pa
import pyarrow.csv as pacsv

from medsae_ray.errors import DatasetError

SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
"""In the order in which they are preferred where several fit."""
_SAMPLE = 2**18  # characters that separators are tried on
_BLOCK = 2**30  # bytes: a row, or here a whole table, has to fit into one of Arrow's blocks
_END = "\x1e"  # the row that is put behind the last one, to see whether a quote swallows it
_EXCEL = re.compile(r"""(["']?)sep=([^\r\n])\1(?=[\r\n])""", re.IGNORECASE)
_MARKS = (
    *((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
)


class TableForm(NamedTuple):
    """How a table was written down, where the recipe says it."""

    separator: str | None = None
    encoding: str | None = None
    options: bool = False
    """Whether the recipe may say it, so that a message can name the option."""


PLAIN = TableForm()


def delimited(data: bytes, name: str, form: TableForm) -> pa.Table:
    """All columns as strings, an empty cell as null; names without space around. DatasetError for what is no table."""
    text = decoded(data, name, form).lstrip("\r\n\ufeff")
    told = _EXCEL.match(text)
    excel = told[2] if told else None
    text = text[told.end() :].lstrip("\r\n") if told else text
    if not text.strip():
        raise DatasetError(f"{name} is neither a CSV nor a Parquet table: it is empty")
    return _parsed(text, name, form.separator or excel or separator_of(text))


def decoded(data: bytes, name: str, form: TableForm) -> str:
    """The file's characters. DatasetError if its encoding is not certain."""
    mark, encoding = next(((mark, kind) for mark, kind in _MARKS if data.startswith(mark)), (b"", form.encoding or ""))
    encoding = encoding or _without_mark(data)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        line = 1 + data[: error.start].count(b"\n")
        option = ", or say its encoding in the dataset's `encoding` (cp1252, latin-1, ...)" if form.options else ""
        if form.encoding and not mark:
            option = "; the dataset's `encoding` is another"
        raise DatasetError(
            f"{name} is no {encoding.upper()} text: the first byte that does not fit is in line {line}. Many programs "
            f"write Windows-1252 or Latin-1: save it as UTF-8 (in Excel: CSV UTF-8){option}"
        ) from None
    if "\0" in text:
        raise DatasetError(f"{name} is no text: it holds zero bytes. If it is UTF-16, save it as UTF-8")
    return text


def _without_mark(data: bytes) -> str:
    """UTF-8, or the UTF-16 in which every other byte of a table's first characters is 0."""
    even, odd = data[0:64:2], data[1:64:2]
    if len(data) > 3 and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if len(data) > 3 and not any(even) and all(odd) else "utf-8"


def separator_of(text: str) -> str:
    """The separator that cuts the header and as many of the first rows as possible into equally many cells."""
    return max(SEPARATORS, key=lambda separator: _fit(text, separator))


def _fit(text: str, separator: str) -> tuple[bool, bool, int]:
    """For comparison: whether all rows have as many cells as the header, whether it is the comma, which goes before
    others that do, and how many cells the header has. A separator that cuts nothing fits worst."""
    rows = [len(row) for row in _rows(text[:_SAMPLE], separator) if row]
    if len(text) > _SAMPLE and len(rows) > 1:
        rows.pop()  # it may be cut short
    cells = rows[0] if rows else 0
    alike = cells > 1 and len(set(rows)) == 1
    return alike, alike and separator == ",", cells


def _rows(text: str, separator: str) -> list[list[str]]:
    """Rows up to one that the csv module does not read."""
    found = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            found.append(row)
    except csv.Error:  # a cell of more than its limit, or one that the sample cuts
        pass
    return found


def _parsed(text: str, name: str, separator: str) -> pa.Table:
    header = _header(text, separator)
    keys = [str(place) for place in range(len(header))]  # names may come twice
    ragged: list[pacsv.InvalidRow] = []

    def refuse(row: pacsv.InvalidRow) -> str:
        ragged.append(row)
        return "error"

    data = f"{text}\n{separator.join([_END] * len(keys))}\n".encode()
    try:
        table = pacsv.read_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(
                use_threads=False,  # only then does Arrow count rows
                block_size=min(len(data) + 1, _BLOCK),
                column_names=keys,
                skip_rows_after_names=1,
            ),
            parse_options=pacsv.ParseOptions(delimiter=separator, newlines_in_values=True, invalid_row_handler=refuse),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(keys, pa.string()), strings_can_be_null=True, null_values=[""]
            ),
        )
    except pa.ArrowInvalid as error:
        raise DatasetError(
            f"{name} is neither a CSV nor a Parquet table: {_said(error, ragged, separator, len(data))}"
        ) from None
    if table.num_rows == 0 or table.column(0)[-1].as_py() != _END:
        raise DatasetError(f"{name} is neither a CSV nor a Parquet table: {_unclosed(table.num_rows)}")
    return table.slice(0, table.num_rows - 1).rename_columns(header)


def _header(text: str, separator: str) -> list[str]:
    rows = _rows(text[:_SAMPLE], separator) or [[text[:_SAMPLE]]]
    return [cell.strip() for cell in rows[0]]


def _unclosed(row: int) -> str:
    place = f"data row {row}" if row else "the header"
    return f"a quote that opens in {place} is never closed, so that all after it is one cell"


def _said(error: pa.ArrowInvalid, ragged: list[pacsv.InvalidRow], separator: str, size: int) -> str:
    """What is wrong, without a cell of the table, which Arrow repeats."""
    if ragged and _END in ragged[0].text:
        return _unclosed(ragged[0].number - 1)
    if not ragged:
        swallowed = "straddling" in str(error)  # one row is all of a block
        return (_unclosed(0) if size < _BLOCK else "a row of 1 GB") if swallowed else str(error).partition(":")[0]
    row = ragged[0]
    return (
        f"Expected {row.expected_columns} columns, got {row.actual_columns} in data row {row.number - 1}; a cell with "
        f"a {SEPARATORS.get(separator, repr(separator))} in it needs quotes around it"
    )
