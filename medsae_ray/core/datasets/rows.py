"""The rows of a dataset, and their way into the manifest."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from medsae_ray.core.artifacts import schema
from medsae_ray.core.datasets.splits import index_images, patient_splits
from medsae_ray.errors import DatasetError

Policy: TypeAlias = str | Mapping[str, str]
"""ignore, zero or one, for all rows or by dataset."""


@dataclass(frozen=True)
class Rows:
    """One dataset before the split, as columns of equal length."""

    dataset: str
    image_id: list[str]
    patient_id: list[str]
    uri: list[str]
    labels: dict[str, pa.Array]
    """Label -> int8 array of 1, 0, -1 (uncertain) or null (not annotated)."""
    metadata: dict[str, pa.Array]
    """Column -> string array."""
    patients_known: bool = True
    """False if every image counts as a patient of its own because nothing says whose it is."""
    study_id: list[str | None] | None = None
    """The visit that each image belongs to, if the dataset names it."""
    row_dataset: list[str] | None = None
    """The dataset of each row, if several were combined."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Further facts for the record about the origin of the rows: counts of rows left out, rules that were applied."""


def to_manifest(rows: Rows, shares: dict[str, float], salt: str, shard_rows: int) -> pa.Table:
    """Return the manifest rows in dataset order. Raises DatasetError for no rows, or an image that is listed twice."""
    if not rows.image_id:
        raise DatasetError(f"{rows.dataset} has no rows")
    _refuse_duplicates(rows)
    n = len(rows.image_id)
    columns = [
        pa.array(rows.image_id),
        pa.array(rows.patient_id),
        pa.array(rows.row_dataset or [rows.dataset] * n),
        pa.array(rows.uri),
        pa.array(np.arange(n, dtype=np.int32) // shard_rows),
        pa.array(patient_splits(rows.patient_id, shares, salt)),
        pa.array(index_images(rows.image_id, rows.patient_id, salt)),
        *([] if rows.study_id is None else [pa.array(rows.study_id, pa.string())]),
        *rows.labels.values(),
        *rows.metadata.values(),
    ]
    declared = schema.manifest(list(rows.labels), list(rows.metadata), studies=rows.study_id is not None)
    return pa.Table.from_arrays(columns, schema=declared)


def _refuse_duplicates(rows: Rows) -> None:
    counts = pa.array(rows.image_id).value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        first = repeated[0]["values"].as_py()
        one, other = [row + 1 for row, image in enumerate(rows.image_id) if image == first][:2]
        raise DatasetError(
            f"{rows.dataset}: {len(repeated)} images are listed more than once, the first as images {one} and {other} "
            "of those that are used"
        )


def never_absent(rows: Rows) -> dict[str, int]:
    """Count the -1 of each label that has -1 but no 0, since -1 may mean absent there."""
    unsure = {label: pc.sum(pc.equal(values, -1)).as_py() or 0 for label, values in rows.labels.items()}
    return {
        label: count for label, count in unsure.items() if count and not pc.any(pc.equal(rows.labels[label], 0)).as_py()
    }


def label_names(manifest_schema: pa.Schema) -> list[str]:
    """Return the labels of a manifest: its columns y_<label>, without the prefix."""
    return [name[2:] for name in manifest_schema.names if name.startswith("y_")]


def label_matrix(manifest: pa.Table, uncertain: Policy, blank: Policy) -> np.ndarray:
    """Return the labels as float64 [N, L], NaN = left out. The policies give the value of -1 and null: ignore, zero or
    one.

    With several datasets, a label that one of them never annotates is left out there, whatever its policy for blanks.
    """
    dataset = manifest["dataset"].combine_chunks().dictionary_encode()
    code_N, names = dataset.indices.to_numpy(), dataset.dictionary.to_pylist()
    unsure_N, blank_D = _values(uncertain, names)[code_N], _values(blank, names)
    columns = []
    for label in label_names(manifest.schema):
        y_N = pc.cast(manifest[f"y_{label}"], pa.float64()).to_numpy(zero_copy_only=False).astype(np.float64)
        missing_N = np.isnan(y_N)
        annotated_D = np.bincount(code_N, ~missing_N, len(names)) > 0
        given_D = np.where(annotated_D | (len(names) == 1), blank_D, np.nan)
        columns.append(np.where(missing_N, given_D[code_N], np.where(y_N == -1, unsure_N, y_N)))
    return np.stack(columns, axis=1) if columns else np.empty((manifest.num_rows, 0))


def _values(policy: Policy, datasets: list[str]) -> np.ndarray:
    """Return the value that a policy gives, for each dataset [D]."""
    value = {"ignore": np.nan, "zero": 0.0, "one": 1.0}
    return np.array([value[policy if isinstance(policy, str) else policy[name]] for name in datasets])
