"""Columns of a dataset's table: a Parquet file or a text table (CSV, gzipped or not), read as text and as labels.

Messages give the row and the column but never the content of a cell, which may be a name, as messages go into logs.
Rows are counted from 1, without the header.
"""

import codecs
import gzip
import re
import zlib
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from medsae_ray.core.artifacts.store import split_uri
from medsae_ray.core.datasets.delimited import PLAIN, TableForm, delimited
from medsae_ray.core.datasets.label_values import ALLOWED, BLANK, meanings, normalised_word
from medsae_ray.errors import DatasetError
from medsae_ray.names import nearest


def file_data(uri: str | None, key: str) -> bytes:
    """Read the bytes of the file at how.paths.<key>. DatasetError if none is given or it cannot be read."""
    if not uri:
        raise DatasetError(f"how.paths.{key} is not set")
    folder, name = split_uri(uri)
    try:
        return folder.read(name)
    except OSError as error:
        raise DatasetError(f"how.paths.{key}: {uri} cannot be read: {error}") from error


def read_table(data: bytes, name: str, form: TableForm = PLAIN) -> pa.Table:
    """Read all columns of a Parquet file, or of a text table (delimited.py), gzipped or not, as text.

    Spaces around names are removed. Columns without a name, such as the saved index of a data frame, are left out.
    DatasetError for another kind of file; the message names the kind and the remedy.
    """
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{name} is not a whole gzip file: {error}; fetch it again") from error
    table = _parquet(data, name) if data[:4] == b"PAR1" else delimited(_text(data, name), name, form)
    names = [str(column).strip() for column in table.column_names]
    named = [place for place, column in enumerate(names) if column and column != "__index_level_0__"]
    return table.rename_columns(names).select(named)


def _parquet(data: bytes, name: str) -> pa.Table:
    try:
        return pq.read_table(pa.BufferReader(data))
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetError(f"{name} begins as a Parquet file and is none, or not all of it: {_brief(error)}") from None


def _brief(error: Exception) -> str:
    """Return the first words of Arrow's message, whose rest may hold values of the table."""
    return re.split(r"['\":\n]", str(error), maxsplit=1)[0].strip()


_SHEET = "save its sheet as CSV (in Excel: CSV UTF-8)"
_BINARY: tuple[tuple[bytes, str, str], ...] = (
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook", _SHEET),
    (b"BZh", "a bzip2 archive", "unpack it"),
    (b"\xfd7zXZ", "an xz archive", "unpack it"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard archive", "unpack it"),
    (b"ARROW1", "a Feather file", "save it as Parquet or CSV"),
    (b"FEA1", "a Feather file", "save it as Parquet or CSV"),
    (b"SQLite", "an SQLite database", "save its table as CSV"),
    (b"\x89HDF", "an HDF5 file", "save its table as CSV or Parquet"),
    (b"\x93NUMPY", "a NumPy array", "save a table as CSV or Parquet"),
    (b"ORC", "an ORC file", "save it as Parquet or CSV"),
    *(
        (bytes((0x80, version)), "a pickle, which is never opened", "save it as Parquet or CSV")
        for version in range(2, 6)
    ),
    (b"%PDF", "a PDF document", "save its table as CSV"),
    (b"\x89PNG", "an image", "give the table's file"),
    (b"\xff\xd8\xff", "an image", "give the table's file"),
)
_WORDY: tuple[tuple[bytes, str, str], ...] = (
    (b"<!doctype", "a web page", "the site may want you to log in; fetch the file again"),
    (b"<html", "a web page", "the site may want you to log in; fetch the file again"),
    (b"<?xml", "an XML file", "save its table as CSV"),
    (b'{"', "a JSON file", "save it as CSV or Parquet"),
    (b"[{", "a JSON file", "save it as CSV or Parquet"),
    (b"version https://git-lfs", "a placeholder of Git LFS", "fetch the file itself (git lfs pull)"),
)
"""Other kinds of file given as a table: the first bytes, the kind and the remedy. By chance a text may begin like a
binary one."""


def _text(data: bytes, name: str) -> bytes:
    """Return `data`. DatasetError if it is not a text file."""
    known: tuple[str, str] | None = None
    if data[:4] == b"PK\x03\x04":
        known = ("a zip archive", "unpack it")
        if b"xl/" in data or b"opendocument.spreadsheet" in data[:256]:
            known = ("an Excel workbook" if b"xl/" in data else "a spreadsheet", _SHEET)
    start = data[:64].lstrip()
    if not known:
        kinds = [*(_BINARY if b"\0" in data[:1024] or _is_no_utf8(data[:1024]) else ()), *_WORDY]
        known = next(((what, todo) for begin, what, todo in kinds if start.lower().startswith(begin.lower())), None)
    if known:
        raise DatasetError(f"{name} is {known[0]}, neither a CSV nor a Parquet table: {known[1]}")
    return data


def _is_no_utf8(data: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data)  # a character may be cut at the end
    except UnicodeDecodeError:
        return True
    return False


def column(table: pa.Table, name: str, where: str) -> pa.Array:
    """Return one column. DatasetError names the nearest column if it is missing, or reports that several have the
    name."""
    name = name.strip()
    if name not in table.column_names:
        raise DatasetError(f"{where} has no column {name!r}; {other_columns(table, name)}")
    if (times := table.column_names.count(name)) > 1:
        raise DatasetError(f"{where} has {times} columns {name!r}; rename or remove all but one")
    return table[name].combine_chunks()


def other_columns(table: pa.Table, name: str) -> str:
    """Describe the columns that exist in place of a missing one. Not all names are given: without a header they are
    the cells of a row."""
    within = (re.search(rf"(?:^|([^\w]))\s*{re.escape(name)}\s*(?:$|([^\w]))", other) for other in table.column_names)
    cut = next((found for found in within if found and found[0] != found.string), None)
    if cut and table.num_columns <= 2:
        by = repr((cut[2] or cut[1]).strip() or " ")
        found = f"no name of its {table.num_columns} columns is like it"
        return f"{found}; is it divided by {by}? The option `separator` of a table dataset says so"
    near = nearest(name, table.column_names, 0.7)
    if near:
        return f"did you mean {near!r}?"
    one = "; is it divided by another character than comma, semicolon, tab or |?" if table.num_columns == 1 else ""
    return f"no name of its {table.num_columns} columns is like it{one}"


def data_row(wrong: pa.Array, rows: pa.Array | None = None) -> str:
    """Locate the first true value of `wrong`; `rows` are the numbers of its rows, from 0, if some were left out."""
    first = pc.index(wrong, True).as_py()
    return f"data row {1 + (first if rows is None else rows[first].as_py())}"


def text(table: pa.Table, name: str, where: str) -> pa.Array:
    """Return one column as strings."""
    values = column(table, name, where)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    try:
        return pc.cast(values, pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # bytes that are no UTF-8 among them
        raise DatasetError(f"{where}: column {name!r} cannot be read as text: it holds {values.type}") from None


def required(table: pa.Table, name: str, where: str) -> pa.Array:
    """Return one column as trimmed strings. DatasetError if a row has none."""
    return filled(trimmed(text(table, name, where)), name, where)


def filled(values: pa.Array, name: str, where: str) -> pa.Array:
    """Return `values` unchanged. DatasetError if one is null."""
    if values.null_count:
        row = data_row(pc.is_null(values))
        raise DatasetError(f"{where}: column {name!r} is blank in {values.null_count} rows, first in {row}")
    return values


def patients(table: pa.Table, name: str, where: str) -> pa.Array:
    """Return one column of patients, as `required` does. A word for an unknown patient (nan, NA, None, unknown) is
    refused too: all its rows would count as one patient."""
    found = required(table, name, where)
    nobody = pc.is_in(pc.utf8_lower(found), value_set=pa.array(sorted(BLANK)))
    if pc.any(nobody).as_py():
        raise DatasetError(
            f"{where}: column {name!r} says NA, nan, none, null or unknown in {pc.sum(nobody).as_py()} rows, first in "
            f"{data_row(nobody)}, which is no patient; give each a name of its own, or leave these rows out"
        )
    return found


def trimmed(values: pa.Array) -> pa.Array:
    """Trim spaces and compose accented letters (NFC). " p1" and "p1" are one patient, who must not come into two
    splits. An empty text becomes null."""
    values = pc.utf8_trim_whitespace(pc.utf8_normalize(values, form="NFC"))
    return pc.if_else(pc.equal(values, ""), None, values)


def label(table: pa.Table, name: str, where: str, values: Mapping[str, int | None] | None = None) -> pa.Array:
    """Return one column of labels as int8 of 1, 0, -1 or null, by the words of label_values.py and by a recipe's
    `values` if the dataset has this option. DatasetError gives the place of the first other value."""
    cells = column(table, name, where)
    if pa.types.is_nested(cells.type) or pa.types.is_temporal(cells.type):
        raise DatasetError(f"{where}: label column {name!r} is not numeric and no text: {cells.type}")
    if pa.types.is_floating(cells.type) or pa.types.is_decimal(cells.type):
        cells = pc.cast(cells, pa.float64())
    elif not (pa.types.is_integer(cells.type) or pa.types.is_boolean(cells.type)):
        cells = text(table, name, where)
    coded = cells.dictionary_encode()
    known = meanings(values)
    words = [normalised_word(cell) for cell in coded.dictionary.to_pylist()]
    odd = pa.array([word not in known for word in words], pa.bool_()).take(coded.indices)
    if pc.any(odd).as_py():
        kind = "number" if _is_number(words[coded.indices[pc.index(odd, True).as_py()].as_py()]) else "word"
        option = "" if values is None else ". The dataset's `values` may say what others mean: {word: 1, 0, -1 or null}"
        raise DatasetError(
            f"{where}: label column {name!r} holds another {kind} in {data_row(odd)}; allowed are {ALLOWED}{option}"
        )
    found = pa.array([known.get(word) for word in words], pa.int8()).take(coded.indices)
    return found if known[""] is None else found.fill_null(known[""])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
