"""Dataset `table`: a CSV or Parquet file with a row per image."""

import difflib
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from medsae_ray.core.artifact import sha256
from medsae_ray.core.datasets.rows import LABEL_VALUES, Reader, Rows
from medsae_ray.core.storage import split_uri
from medsae_ray.errors import DatasetError

if TYPE_CHECKING:
    from medsae_ray.config import Paths, TableDataset


def table_data(paths: "Paths") -> bytes:
    """The bytes of how.paths.table. DatasetError if it cannot be read."""
    folder, name = split_uri(str(paths.table))
    try:
        return folder.read(name)
    except OSError as error:
        raise DatasetError(f"how.paths.table: {paths.table} cannot be read: {error}") from error


def read_table(data: bytes, name: str) -> pa.Table:
    """All columns of a Parquet file, or of a CSV file as text (an empty cell is null)."""
    try:
        if data[:4] == b"PAR1":
            return pq.read_table(pa.BufferReader(data))
        header = pacsv.open_csv(pa.BufferReader(data)).schema.names
        convert = pacsv.ConvertOptions(
            column_types={c: pa.string() for c in header}, strings_can_be_null=True, null_values=[""]
        )
        return pacsv.read_csv(pa.BufferReader(data), convert_options=convert)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{name} is neither a CSV nor a Parquet table: {error}") from error


def table_rows(data: bytes, where: str, dataset: "TableDataset") -> Rows:
    """The table's rows. Raises DatasetError for an unknown column, a row without image or patient, or an odd label."""
    table = read_table(data, where)
    images = _text(table, dataset.image, where)
    patients = _trimmed(_text(table, dataset.patient, where)) if dataset.patient else images
    for what, column in ((dataset.image, images), (dataset.patient or "", patients)):
        if column.null_count:
            row = pc.index(pc.is_null(column), True).as_py()
            raise DatasetError(
                f"{where}: column {what!r} is blank in {column.null_count} rows, first in data row {row + 1}"
            )
    return Rows(
        dataset=dataset.name,
        image_id=images.to_pylist(),
        patient_id=patients.to_pylist(),
        uri=images.to_pylist(),
        labels={label: _label(table, label, where) for label in dataset.labels},
        metadata={column: _text(table, column, where) for column in dataset.metadata},
        patients_known=dataset.patient is not None,
    )


def _column(table: pa.Table, name: str, where: str) -> pa.Array:
    if name not in table.column_names:
        near = difflib.get_close_matches(name, table.column_names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(table.column_names)}"
        raise DatasetError(f"{where} has no column {name!r}; {hint}")
    if (times := table.column_names.count(name)) > 1:
        raise DatasetError(f"{where} has {times} columns {name!r}; rename or remove all but one")
    return table[name].combine_chunks()


def _text(table: pa.Table, name: str, where: str) -> pa.Array:
    column = _column(table, name, where)
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    try:
        return pc.cast(column, pa.string())
    except pa.ArrowNotImplementedError as error:
        raise DatasetError(f"{where}: column {name!r} cannot be read as text: {error}") from error


def _trimmed(text: pa.Array) -> pa.Array:
    """Without space around; " p1" and "p1" are one patient, who must not come into two splits. Nothing left is null."""
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.equal(text, ""), None, text)


def _label(table: pa.Table, name: str, where: str) -> pa.Array:
    column = _column(table, name, where)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _trimmed(column)
    try:
        values = pc.cast(column, pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DatasetError(f"{where}: label column {name!r} is not numeric: {error}") from error
    values = pc.if_else(pc.is_nan(values), None, values)
    odd = pc.invert(pc.is_in(values.drop_null(), value_set=pa.array(LABEL_VALUES, pa.float64())))
    if pc.any(odd).as_py():
        first = values.drop_null().filter(odd)[0].as_py()
        raise DatasetError(
            f"{where}: label column {name!r} holds {first:g}; allowed are 1, 0, -1 (uncertain) and blank"
        )
    return pc.cast(values, pa.int8())


def _rows(dataset: "TableDataset", paths: "Paths") -> Rows:
    return table_rows(table_data(paths), str(paths.table), dataset)


def _identity(dataset: "TableDataset", paths: "Paths") -> dict[str, Any]:
    return {"table": sha256(table_data(paths))}


TABLE = Reader(_rows, _identity)
