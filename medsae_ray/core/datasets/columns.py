"""Columns of a dataset's table: a CSV (gzipped or not) or Parquet file, read as text and as labels.

Messages say which row and column, and never what is in them: a cell may be a name, and messages go into logs. Rows are
counted from 1, without the header.
"""

import difflib
import gzip
import re
import zlib

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from medsae_ray.core.datasets.rows import LABEL_VALUES
from medsae_ray.core.storage import split_uri
from medsae_ray.errors import DatasetError


def file_data(uri: str | None, key: str) -> bytes:
    """The bytes of the file at how.paths.<key>. DatasetError if none is given or it cannot be read."""
    if not uri:
        raise DatasetError(f"how.paths.{key} is not set")
    folder, name = split_uri(uri)
    try:
        return folder.read(name)
    except OSError as error:
        raise DatasetError(f"how.paths.{key}: {uri} cannot be read: {error}") from error


def read_table(data: bytes, name: str) -> pa.Table:
    """All columns of a Parquet file, or of a CSV file, gzipped or not, as text (an empty cell is null)."""
    try:
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        if data[:4] == b"PAR1":
            return pq.read_table(pa.BufferReader(data))
        header = pacsv.open_csv(pa.BufferReader(data)).schema.names
        convert = pacsv.ConvertOptions(
            column_types={c: pa.string() for c in header}, strings_can_be_null=True, null_values=[""]
        )
        return pacsv.read_csv(pa.BufferReader(data), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{name} is neither a CSV nor a Parquet table: {without_cells(error)}") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DatasetError(f"{name} is not a whole gzip file: {error}; fetch it again") from error


def without_cells(error: pa.ArrowInvalid) -> str:
    """What Arrow says of a table that it cannot read, up to where it repeats a row or a value."""
    return re.split(r"(?<=, got \d)\d*:|['\"]|\n", str(error), maxsplit=1)[0].rstrip(" :")


def column(table: pa.Table, name: str, where: str) -> pa.Array:
    """One column. DatasetError names the nearest column if there is none, or says that there are several."""
    if name not in table.column_names:
        raise DatasetError(f"{where} has no column {name!r}; {other_columns(table, name)}")
    if (times := table.column_names.count(name)) > 1:
        raise DatasetError(f"{where} has {times} columns {name!r}; rename or remove all but one")
    return table[name].combine_chunks()


def other_columns(table: pa.Table, name: str) -> str:
    """What there is in place of a column. The names of all are not given: without a header they are a row's cells."""
    near = difflib.get_close_matches(name, table.column_names, n=1, cutoff=0.7)
    return f"did you mean {near[0]!r}?" if near else f"no name of its {table.num_columns} columns is like it"


def data_row(wrong: pa.Array, rows: pa.Array | None = None) -> str:
    """Where the first true of `wrong` is; `rows` are the numbers of its rows, from 0, where some were left out."""
    first = pc.index(wrong, True).as_py()
    return f"data row {1 + (first if rows is None else rows[first].as_py())}"


def text(table: pa.Table, name: str, where: str) -> pa.Array:
    """One column as strings."""
    values = column(table, name, where)
    if pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    try:
        return pc.cast(values, pa.string())
    except pa.ArrowNotImplementedError as error:
        raise DatasetError(f"{where}: column {name!r} cannot be read as text: {error}") from error


def required(table: pa.Table, name: str, where: str) -> pa.Array:
    """One column as trimmed strings. DatasetError if a row has none."""
    return filled(trimmed(text(table, name, where)), name, where)


def filled(values: pa.Array, name: str, where: str) -> pa.Array:
    """`values` as they are. DatasetError if one is null."""
    if values.null_count:
        row = data_row(pc.is_null(values))
        raise DatasetError(f"{where}: column {name!r} is blank in {values.null_count} rows, first in {row}")
    return values


def trimmed(values: pa.Array) -> pa.Array:
    """Without space around; " p1" and "p1" are one patient, who must not come into two splits. Nothing left is null."""
    values = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(values, ""), None, values)


def label(table: pa.Table, name: str, where: str) -> pa.Array:
    """One column of labels, int8 of 1, 0, -1 or null. DatasetError names the first row with another value."""
    values = column(table, name, where)
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = trimmed(values)
    try:
        values = pc.cast(values, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        raise DatasetError(f"{where}: label column {name!r} is not numeric{_first_text(values)}") from None
    values = pc.if_else(pc.is_nan(values), None, values)
    odd = pc.invert(pc.is_in(values, value_set=pa.array([*LABEL_VALUES, None], pa.float64())))
    if pc.any(odd).as_py():
        raise DatasetError(
            f"{where}: label column {name!r} holds another number in {data_row(odd)}; allowed are 1, 0, -1 (uncertain) "
            "and blank"
        )
    return pc.cast(values, pa.int8())


def _first_text(values: pa.Array) -> str:
    """Where the first text that is no number is, if these are texts."""
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        return f": {values.type}"
    return f", first in {data_row(pa.array([not _is_number(value) for value in values.to_pylist()]))}"


def _is_number(value: str | None) -> bool:
    try:
        float(value or 0)
    except ValueError:
        return False
    return True
