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
    """Convert numbers to the text that was meant, since YAML reads 9 as a number; refuse true for TRUE, which may
    mean something else."""
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
    """The shared options of datasets with a table of your own: its format, if it is not certain by itself."""

    separator: Annotated[str, Limits(min_length=1, max_length=1)] | None = None
    """Separator between a CSV's cells, such as "\\t"; null detects comma, semicolon, tab or |."""
    encoding: Annotated[str | None, Checked(_known_encoding)] = None
    """Encoding of a CSV, such as cp1252 or latin-1; null takes UTF-8, and UTF-16 if that is certain."""
    values: Annotated[dict[str, Literal[1, 0, -1] | None], Checked(_words, before=True)] = field(default_factory=dict)
    """Meanings of other words in label columns: {word: 1, 0, -1 or null}. Words may be of any case, or numbers, as
    {"9": null}. Already known are 1, true, t, yes, y, present, positive, pos; 0, false, f, no, n, absent, negative,
    neg; -1, uncertain; and as blank na, n/a, nan, none, null, unknown, not mentioned. Any other word is an error
    that gives its place."""

    def chosen(self) -> dict[str, Any]:
        """Return the options that decide the rows. The options of this class are newer than existing artifacts, so
        only those in use are included."""
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
    """Column with the patient; without one every image counts as a patient of its own, and the record reports it."""
    labels: Annotated[list[str], Distinct] = field(default_factory=list)
    """Columns of 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned), or of words listed in `values`;
    empty for a run without labels."""
    metadata: Annotated[list[str], Distinct] = field(default_factory=list)
    """Further columns, kept as text: view, sex, age, device."""

    def rows(self, paths: Paths) -> Rows:
        """Return the table's rows."""
        return table_rows(file_data(paths.table, "table"), str(paths.table), self)


def table_rows(data: bytes, where: str, dataset: TableDataset) -> Rows:
    """Return the table's rows. Raises DatasetError for an unknown column, a row without image or patient, or an
    invalid label."""
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
    """Refuse Windows paths: elsewhere such a path is one name without folders, and every image would be missing."""
    windows = pc.and_(pc.match_substring(images, "\\"), pc.invert(pc.match_substring(images, "://")))
    if os.sep == "/" and pc.any(windows).as_py():
        raise DatasetError(
            f"{where}: column {name!r} holds paths with backslashes, first in {data_row(windows)}; write them with /, "
            "as in folder/image.png"
        )
