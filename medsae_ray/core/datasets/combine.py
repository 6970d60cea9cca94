"""Several datasets as one: unique names, and labels that are merged where the recipe says so."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from medsae_ray.core.datasets.rows import Rows
from medsae_ray.errors import DatasetError
from medsae_ray.names import nearest

Mapped = Mapping[str, Mapping[str, str]]
"""Label -> dataset -> name of the label in that dataset."""


def combine(datasets: Sequence[Rows], mapped: Mapped) -> Rows:
    """Combine all rows, dataset after dataset.

    Images, patients, studies and relative uris are prefixed with the dataset's name: two datasets never share a
    patient. A label that `mapped` does not name stays separate, as dataset/label; equal names are never merged. The
    labels of `mapped` come first, in the order of the datasets' own labels, whatever the order of its keys.
    DatasetError if `mapped` names a label that the dataset does not have.
    """
    if any("dataset" in rows.metadata for rows in datasets):
        raise DatasetError("metadata column 'dataset': several datasets have such a column already; leave it out")
    names = [rows.dataset for rows in datasets]
    studies = any(rows.study_id for rows in datasets)
    columns = list(dict.fromkeys(column for rows in datasets for column in rows.metadata))
    sizes = [len(rows.image_id) for rows in datasets]
    return Rows(
        dataset=", ".join(names),
        image_id=[f"{rows.dataset}/{image}" for rows in datasets for image in rows.image_id],
        patient_id=[f"{rows.dataset}/{patient}" for rows in datasets for patient in rows.patient_id],
        uri=[_uri(rows.dataset, uri) for rows in datasets for uri in rows.uri],
        labels=_labels(datasets, mapped, sizes),
        metadata={
            "dataset": pa.array([name for name, size in zip(names, sizes, strict=True) for _ in range(size)]),
            **{
                column: _stack([rows.metadata.get(column) for rows in datasets], sizes, pa.string())
                for column in columns
            },
        },
        patients_known=all(rows.patients_known for rows in datasets),
        study_id=[study for rows in datasets for study in _studies(rows)] if studies else None,
        row_dataset=[rows.dataset for rows in datasets for _ in rows.image_id],
        notes={rows.dataset: rows.notes | {"patient_column": rows.patients_known} for rows in datasets},
    )


def _uri(dataset: str, uri: str) -> str:
    return uri if "://" in uri or uri.startswith("/") else f"{dataset}/{uri}"


def _studies(rows: Rows) -> list[str | None]:
    if rows.study_id is None:
        return [None] * len(rows.image_id)
    return [study and f"{rows.dataset}/{study}" for study in rows.study_id]


def _labels(datasets: Sequence[Rows], mapped: Mapped, sizes: Sequence[int]) -> dict[str, pa.Array]:
    for rows in datasets:
        for own in (names[rows.dataset] for names in mapped.values() if rows.dataset in names):
            if own not in rows.labels:
                near = nearest(own, rows.labels)
                hint = f"did you mean {near!r}?" if near else f"it has {', '.join(rows.labels)}"
                raise DatasetError(f"what.labels: dataset {rows.dataset} has no label {own!r}; {hint}")
    known = {rows.dataset: rows.labels for rows in datasets}
    own_names: dict[str, dict[str, str | None]] = {
        label: {name: mapped[label].get(name) for name in known} for label in _ordered(datasets, mapped)
    }
    taken = {(name, own) for names in mapped.values() for name, own in names.items()}
    for rows in datasets:
        apart: dict[str, dict[str, str | None]] = {
            f"{rows.dataset}/{own}": {rows.dataset: own} for own in rows.labels if (rows.dataset, own) not in taken
        }
        if twice := sorted(set(apart) & set(own_names)):
            raise DatasetError(f"what.labels: {twice[0]!r} is the name of a label that stays apart; take another")
        own_names |= apart
    return {
        label: _stack([known[name].get(own.get(name) or "") for name in known], sizes, pa.int8())
        for label, own in own_names.items()
    }


def _ordered(datasets: Sequence[Rows], mapped: Mapped) -> list[str]:
    """Sort the labels of `mapped` by the first dataset that has them, and by their place in it."""
    place = {(rows.dataset, own): (d, i) for d, rows in enumerate(datasets) for i, own in enumerate(rows.labels)}
    nowhere = (len(datasets), 0)
    return sorted(
        mapped, key=lambda label: (min((place[pair] for pair in mapped[label].items()), default=nowhere), label)
    )


def _stack(columns: Sequence[pa.Array | None], sizes: Sequence[int], kind: pa.DataType) -> pa.Array:
    """Stack one column of all datasets, with null where a dataset does not have it."""
    filled = (pa.nulls(size, kind) if c is None else c for c, size in zip(columns, sizes, strict=True))
    arrays = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in filled]
    return pa.concat_arrays([array.cast(kind) for array in arrays])
