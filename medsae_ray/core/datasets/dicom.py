"""Dataset `dicom`: a folder of DICOM files and zip archives of them, with labels from a table if there is one.

A row is a frame. Identifiers are the only free texts of a header that leave this file, and the manifest stage hashes
them (privacy.py): metadata has a closed vocabulary (core/dicom/header.py), and messages give counts. The uri, which
locates the image, is a path below how.paths.images and may reveal more; it stays in the manifest.

The dataset's identity is the SHA-256 of every file's name below how.paths.images, its size and its parsed header, with
the table's own hash: a moved folder is the same dataset, a changed file is another.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pyarrow as pa

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.base import LabelPolicy, Paths
from medsae_ray.core.datasets.columns import file_data
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.scan import File, FolderScan, scan
from medsae_ray.core.datasets.table import LabelTable, TableDataset, table_rows
from medsae_ray.core.images.dicom.header import METADATA
from medsae_ray.errors import DatasetError
from medsae_ray.names import by_name
from medsae_ray.options import Distinct, Limits


@dataclass(frozen=True, kw_only=True)
class DicomDataset(LabelTable):
    """DICOM files and zip files of them, at any depth below how.paths.images; every frame is a row.

    Labels come from how.paths.table, if there is one.
    """

    needs = ("images",)
    reads_all = True
    identifying = True
    library = "pydicom"
    kind: Literal["dicom"]
    blank: LabelPolicy = "ignore"
    """Value, in the statistics, of a missing label and of an image that the table lacks."""
    folders: Annotated[list[str], Limits(min_length=1), Distinct] = field(default_factory=lambda: ["."])
    """Folders below how.paths.images that belong to the dataset."""
    join: str = "SOPInstanceUID"
    """Column of how.paths.table that identifies the image of a row."""
    join_by: Literal["instance", "path"] = "instance"
    """Content of that column: SOP instance UIDs, or paths below how.paths.images."""
    labels: Annotated[list[str], Distinct] = field(default_factory=list)
    """Columns of how.paths.table: 1 (present), 0 (absent), -1 (uncertain) or blank (not mentioned), or words listed
    in `values`."""

    def rows(self, paths: Paths) -> Rows:
        """Return one row per frame."""
        return dicom_rows(self._scan(paths), self, _table(paths))

    def content(self, paths: Paths) -> dict[str, Any]:
        """Hash the names, sizes and headers of the files, and the table."""
        table = _table(paths)
        return {"files": digest(self._scan(paths)), **({"table": sha256(table)} if table is not None else {})}

    def _scan(self, paths: Paths) -> FolderScan:
        return scan(Store(str(paths.images)), self.folders)


def _table(paths: Paths) -> bytes | None:
    return file_data(paths.table, "table") if paths.table else None


def dicom_rows(found: FolderScan, dataset: DicomDataset, table: bytes | None) -> Rows:
    """Return the rows by name and frame. Raises DatasetError if there are none, or if the table does not fit."""
    if not found.files:
        raise DatasetError(f"{dataset.name}: no DICOM image among the files; passed over: {found.skipped or 'none'}")

    rows = [(file, frame) for file in found.files for frame in range(file.header.frames)]
    metadata = zip(*(file.header.metadata for file, _ in rows), strict=True)
    return Rows(
        dataset=dataset.name,
        image_id=[_image(_tidied(_instance(file)), file, frame) for file, frame in rows],
        patient_id=[_tidied(_patient(file)) for file, _ in rows],
        uri=[f"{file.name}#frame={frame}" for file, frame in rows],
        labels=_labels(dataset, table, [file for file, _ in rows]),
        metadata={name: pa.array(column, pa.string()) for name, column in zip(METADATA, metadata, strict=True)},
        patients_known=all(file.header.patient for file in found.files),
        study_id=[_tidied(file.header.study or _instance(file)) for file, _ in rows],
        notes=_shared_uids(found)
        | {
            "passed_over": found.skipped,
            "files": len(found.files),
            "files_without_patient": sum(not file.header.patient for file in found.files),
        },
    )


def _tidied(identifier: str) -> str:
    return identifier.replace("\0", " ").strip()


def _shared_uids(found: FolderScan) -> dict[str, Any]:
    """Count the SOP instance UIDs that images of different pixels share, and those images; {} if there are none."""
    shared = [file.header.instance for file in found.files if file.twin]
    return {"shared_uids": {"uids": len(set(shared)), "files": len(shared)}} if shared else {}


def _image(instance: str, file: File, frame: int) -> str:
    """Return the image's id: its SOP instance UID, with the start of its pixels' hash if it shares that UID, and the
    frame."""
    alone = f"{instance}-{file.twin}" if file.twin else instance
    return f"{alone}-{frame:05d}" if file.header.frames > 1 else alone


def _instance(file: File) -> str:
    return file.header.instance or f"file\0{file.name}"


def _patient(file: File) -> str:
    """Return the patient; if the file names none, the study counts as a patient."""
    return file.header.patient or file.header.study or _instance(file)


def _labels(dataset: DicomDataset, table: bytes | None, files: list[File]) -> dict[str, pa.Array]:
    if not dataset.labels:
        return {}
    if table is None:
        raise DatasetError("what.dataset.labels needs how.paths.table, the file with these columns")
    columns = by_name(TableDataset, dataset, kind="table", image=dataset.join)
    given = table_rows(table, "how.paths.table", columns)
    row_of = {_tidy(image): row for row, image in enumerate(given.image_id)}
    if len(row_of) < len(given.image_id):
        raise DatasetError(
            f"how.paths.table names {len(given.image_id) - len(row_of)} images twice in {dataset.join!r}"
        )
    by_instance = dataset.join_by == "instance"
    # A label given for a shared UID belongs to one of its images, and it is unknown to which.
    shared = [by_instance and bool(file.twin) for file in files]
    wanted = [file.header.instance if by_instance else file.name for file in files]
    found = [None if twins else row_of.get(_tidy(name)) for name, twins in zip(wanted, shared, strict=True)]
    rows = pa.array(found, pa.int64())
    if all(shared):
        raise DatasetError(
            "all images share their SOPInstanceUID with others, so how.paths.table cannot say which is which by it; "
            "give the files' paths in a column and set join and join_by: path"
        )
    if rows.null_count == len(rows):
        raise DatasetError(f"how.paths.table: no image of the dataset is in column {dataset.join!r}; see join, join_by")
    return {label: values.take(rows) for label, values in given.labels.items()}


def _tidy(name: str) -> str:
    return name.strip().removeprefix("./")


def digest(found: FolderScan) -> str:
    """Compute the SHA-256 of everything that the rows are made of."""
    total = hashlib.sha256()
    for line in _lines(found):
        total.update(json.dumps(line).encode() + b"\n")
    return total.hexdigest()


def _lines(found: FolderScan) -> Iterator[list[Any]]:
    yield ["passed_over", sorted(found.skipped.items())]
    for file in found.files:
        header = file.header
        names = [header.instance, header.study, header.patient]
        twin = [file.twin] if file.twin else []  # absent otherwise, so that older identities do not change
        yield [file.name, file.size, *names, header.frames, list(header.metadata), *twin]
