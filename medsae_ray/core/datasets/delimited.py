"""Text tables: from a file's bytes, in any encoding and with any separator, to columns of strings.

A doubtful encoding or separator is refused with a remedy, because a wrong guess would be a wrong table.

| property | accepted |
|---|---|
| encoding | UTF-8; UTF-16 and UTF-32 by the mark at their start, UTF-16 also by its zero bytes |
| separator | that of Excel's first line `sep=;`; else the one of , ; tab and | that cuts header and rows alike |
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
"""The separators, in order of preference if several fit."""
_SAMPLE = 2**18  # characters that separators are tried on
_BLOCK = 2**30  # bytes: a row, or here a whole table, has to fit into one of Arrow's blocks
_END = "\x1e"  # the row that is put behind the last one, to see whether a quote swallows it
_EXCEL = re.compile(r"""(["']?)sep=([^\r\n])\1(?=[\r\n])""", re.IGNORECASE)
_MARKS = (
    *((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be")),
    *((codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be")),
)


class TableForm(NamedTuple):
    """The encoding and separator of a table, if the recipe gives them."""

    separator: str | None = None
    encoding: str | None = None
    options: bool = False
    """True if the recipe can give them, so that a message can name the option."""


PLAIN = TableForm()


def delimited(data: bytes, name: str, form: TableForm) -> pa.Table:
    """Read all columns as strings, with null for an empty cell; spaces around names are removed. DatasetError if it
    is not a table."""
    text = decoded(data, name, form).lstrip("\r\n\ufeff")
    told = _EXCEL.match(text)
    excel = told[2] if told else None
    text = text[told.end() :].lstrip("\r\n") if told else text
    if not text.strip():
        raise DatasetError(f"{name} is neither a CSV nor a Parquet table: it is empty")
    return _parsed(text, name, form.separator or excel or separator_of(text))


def decoded(data: bytes, name: str, form: TableForm) -> str:
    """Decode the file's characters. DatasetError if its encoding is not certain."""
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
    """Return the encoding of a text without a mark: UTF-16 if every other byte of its start is 0, else UTF-8."""
    even, odd = data[0:64:2], data[1:64:2]
    if len(data) > 3 and not any(odd) and all(even):
        return "utf-16-le"
    return "utf-16-be" if len(data) > 3 and not any(even) and all(odd) else "utf-8"


def separator_of(text: str) -> str:
    """Return the separator that cuts the header and as many of the first rows as possible into equally many cells."""
    return max(SEPARATORS, key=lambda separator: _fit(text, separator))


def _fit(text: str, separator: str) -> tuple[bool, bool, int]:
    """Return a key for comparing separators: whether all rows have as many cells as the header, whether it is the
    comma, which is preferred, and the number of cells in the header. A separator that cuts nothing fits worst."""
    rows = [len(row) for row in _rows(text[:_SAMPLE], separator) if row]
    if len(text) > _SAMPLE and len(rows) > 1:
        rows.pop()  # it may be cut short
    cells = rows[0] if rows else 0
    alike = cells > 1 and len(set(rows)) == 1
    return alike, alike and separator == ",", cells


def _rows(text: str, separator: str) -> list[list[str]]:
    """Return the rows before the first one that the csv module cannot read."""
    found = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator):
            found.append(row)
    except csv.Error:  # a cell above its limit, or one cut by the sample
        pass
    return found


def _parsed(text: str, name: str, separator: str) -> pa.Table:
    header = _header(text, separator)
    keys = [str(place) for place in range(len(header))]  # names may repeat
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
    """Describe the error without a cell of the table, which Arrow repeats."""
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
