"""Dataset `table`: a CSV or Parquet file with a row per image."""

import os
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.datasets.columns import data_row, file_data, filled, label, patients, read_table, text, trimmed
from medsae_ray.core.datasets.delimited import TableForm
from medsae_ray.core.datasets.rows import Reader, Rows
from medsae_ray.errors import DatasetError

if TYPE_CHECKING:
    from medsae_ray.config import Paths, TableDataset


def table_rows(data: bytes, where: str, dataset: "TableDataset") -> Rows:
    """The table's rows. Raises DatasetError for an unknown column, a row without image or patient, or an odd label."""
    table = read_table(data, where, TableForm(dataset.separator, dataset.encoding, options=True))
    images = text(table, dataset.image, where)
    filled(trimmed(images), dataset.image, where)
    _refuse_backslashes(images, dataset.image, where)
    whose = patients(table, dataset.patient, where) if dataset.patient else images
    return Rows(
        dataset=dataset.name,
        image_id=images.to_pylist(),
        patient_id=whose.to_pylist(),
        uri=images.to_pylist(),
        labels={name: label(table, name, where, dataset.values) for name in dataset.labels},
        metadata={name: text(table, name, where) for name in dataset.metadata},
        patients_known=dataset.patient is not None,
    )


def _refuse_backslashes(images: pa.Array, name: str, where: str) -> None:
    """A path as Windows writes it is one name without folders elsewhere, and every image would be missing."""
    windows = pc.and_(pc.match_substring(images, "\\"), pc.invert(pc.match_substring(images, "://")))
    if os.sep == "/" and pc.any(windows).as_py():
        raise DatasetError(
            f"{where}: column {name!r} holds paths with backslashes, first in {data_row(windows)}; write them with /, "
            "as in folder/image.png"
        )


def _rows(dataset: "TableDataset", paths: "Paths") -> Rows:
    return table_rows(file_data(paths.table, "table"), str(paths.table), dataset)


def _identity(dataset: "TableDataset", paths: "Paths") -> dict[str, Any]:
    return {"table": sha256(file_data(paths.table, "table"))}


TABLE = Reader(_rows, _identity)
