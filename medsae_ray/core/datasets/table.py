"""Dataset `table`: a CSV or Parquet file with a row per image."""

import os
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.datasets.base import Dataset, Paths
from medsae_ray.core.datasets.columns import data_row, file_data, filled, label, patients, read_table, text, trimmed
from medsae_ray.core.datasets.delimited import TableForm
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError
from medsae_ray.options import Checked, Distinct, Limits


def _known_encoding(encoding: str | None) -> str | None:
    try:
        "".encode(encoding or "utf-8")
    except LookupError:
        raise ValueError(f"{encoding!r} is no encoding that Python knows, as utf-8, cp1252 or latin-1") from None
    return encoding


def _words(values: Any) -> Any:
    """YAML reads 9 as a number, which is the text that was meant, and TRUE as true, which may not be."""
    if not isinstance(values, dict):
        return values
    if any(key is None or isinstance(key, bool) for key in values):
        raise ValueError('a word that YAML takes for true, false or null needs quotes: {"true": 1}')
    words = {str(key) if isinstance(key, int | float) else key: value for key, value in values.items()}
    if len(words) < len(values):
        raise ValueError("a word is listed twice, with quotes and without")
    return words


@dataclass(frozen=True, kw_only=True)
class LabelTable(Dataset):
    """What the datasets with a table of your own share: how it is written, where that is not certain by itself."""

    separator: Annotated[str, Limits(min_length=1, max_length=1)] | None = None
    """Between a CSV's cells, as "\\t"; null finds out whether it is a comma, semicolon, tab or |."""
    encoding: Annotated[str | None, Checked(_known_encoding)] = None
    """Of a CSV, as cp1252 or latin-1; null takes UTF-8, and UTF-16 where that is certain."""
    values: Annotated[dict[str, Literal[1, 0, -1] | None], Checked(_words, before=True)] = field(default_factory=dict)
    """What other words in label columns mean: {word: 1, 0, -1 or null}. Of any case; numbers too, as {"9": null}.
    Known without it are 1, true, t, yes, y, present, positive, pos; 0, false, f, no, n, absent, negative, neg; -1,
    uncertain; and as blank na, n/a, nan, none, null, unknown, not mentioned. Others are an error that says where."""

    def chosen(self) -> dict[str, Any]:
        """As of every dataset; artifacts are older than the options of this class, and name those that are used."""
        unused = {name for name in LabelTable.__annotations__ if getattr(self, name) in (None, {})}
        return {name: value for name, value in super().chosen().items() if name not in unused}


@dataclass(frozen=True, kw_only=True)
class TableDataset(LabelTable):
    """A CSV or Parquet file with a row per image (its place: how.paths.table)."""

    row_per_image = True
    kind: Literal["table"]
    image: str
    """Column with the image's path, relative to how.paths.images."""
    patient: str | None = None
    """Column with the patient; without one every image counts as a patient of its own, and the record says so."""
    labels: Annotated[list[str], Distinct] = field(default_factory=list)
    """Columns of 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned), or of words that `values` lists;
    none for a run without labels."""
    metadata: Annotated[list[str], Distinct] = field(default_factory=list)
    """Further columns, kept as text: view, sex, age, device."""

    def rows(self, paths: Paths) -> Rows:
        """The table's rows."""
        return table_rows(file_data(paths.table, "table"), str(paths.table), self)


def table_rows(data: bytes, where: str, dataset: TableDataset) -> Rows:
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
