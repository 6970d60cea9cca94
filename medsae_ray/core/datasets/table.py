"""Dataset `table`: a CSV or Parquet file with a row per image."""

from typing import TYPE_CHECKING, Any

from medsae_ray.core.artifact import sha256
from medsae_ray.core.datasets.columns import file_data, filled, label, read_table, text, trimmed
from medsae_ray.core.datasets.rows import Reader, Rows

if TYPE_CHECKING:
    from medsae_ray.config import Paths, TableDataset


def table_rows(data: bytes, where: str, dataset: "TableDataset") -> Rows:
    """The table's rows. Raises DatasetError for an unknown column, a row without image or patient, or an odd label."""
    table = read_table(data, where)
    images = filled(text(table, dataset.image, where), dataset.image, where)
    patients = images
    if dataset.patient:
        patients = filled(trimmed(text(table, dataset.patient, where)), dataset.patient, where)
    return Rows(
        dataset=dataset.name,
        image_id=images.to_pylist(),
        patient_id=patients.to_pylist(),
        uri=images.to_pylist(),
        labels={name: label(table, name, where) for name in dataset.labels},
        metadata={name: text(table, name, where) for name in dataset.metadata},
        patients_known=dataset.patient is not None,
    )


def _rows(dataset: "TableDataset", paths: "Paths") -> Rows:
    return table_rows(file_data(paths.table, "table"), str(paths.table), dataset)


def _identity(dataset: "TableDataset", paths: "Paths") -> dict[str, Any]:
    return {"table": sha256(file_data(paths.table, "table"))}


TABLE = Reader(_rows, _identity)
