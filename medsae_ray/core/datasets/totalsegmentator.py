"""Dataset `totalsegmentator`: CT or MRI volumes with a mask per organ; each slice of each plane is a row.

| item | meaning |
|---|---|
| a patient | the folder's name, s0001: one scan |
| a label | organ -> 1 if the slice shows any of its mask, 0 if not, null if it has no mask, or none that fits |
| a volume's rows | axial from below, coronal from behind, sagittal from the left, without edges (below) |
| metadata | plane, modality, and the columns of meta.csv: sex, age, institute, study_type, manufacturer, scanner, ... |

Edges are the slices before the first and after the last that show an organ, per plane; SAIL leaves them out too. A scan
without any mask keeps all of its slices, and its labels are null.

Rows of one scan are consecutive, so that a shard reads a volume once for all of its planes. Masks are read before
(core/datasets/organs.py). The identity is the SHA-256 of the sorted names and sizes of all files used, with that of
meta.csv; it needs no reading of masks.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.base import Dataset, LabelPolicy, Paths
from medsae_ray.core.datasets.columns import other_columns, read_table, text
from medsae_ray.core.datasets.organs import VOLUMES, OrganWork, ScanShard, Seen, scans, seen, wards
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.windows import ct_window
from medsae_ray.core.images.archives import fetch
from medsae_ray.errors import DatasetError, ImageError
from medsae_ray.options import Distinct, Limits, Positive

COLUMNS = {
    "sex": "gender",
    "age": "age",
    "institute": "institute",
    "study_type": "study_type",
    "manufacturer": "manufacturer",
    "scanner": "scanner_model",
    "kvp": "kvp",
    "pathology": "pathology",
    "split": "split",
}
"""Metadata -> column of meta.csv."""
Plane = Literal["axial", "coronal", "sagittal"]
_NOT_GIVEN = frozenset(pacsv.ConvertOptions().null_values)


@dataclass(frozen=True, kw_only=True)
class SegmentedDataset(Dataset):
    """The options of volumes in TotalSegmentator's layout. Each slice of each plane is a row, each organ a label: 1
    where the slice shows it."""

    library = "nibabel"
    uncertain: LabelPolicy = "ignore"
    """Value of a label of -1; there are none."""
    blank: LabelPolicy = "ignore"
    """Value of an organ without a segmentation in the statistics."""
    planes: Annotated[list[Plane], Limits(min_length=1), Distinct] = field(
        default_factory=lambda: ["axial", "coronal", "sagittal"]
    )
    """Directions in which volumes are cut."""
    every: Positive = 1
    """Step between slices: 1 takes each, 2 each second, ..."""
    organs: Annotated[list[str], Distinct] = field(default_factory=list)
    """Segmentations that become labels; empty takes all that exist."""
    ct_window: Annotated[list[float], Limits(min_length=2, max_length=2)] | None = None
    """Hounsfield units that become black and white; null chooses them by study type (core/datasets/windows.py)."""
    mri_percentiles: Annotated[list[float], Limits(min_length=2, max_length=2)] = field(
        default_factory=lambda: [1.0, 99.0]
    )
    """Percentiles of an MRI's voxels above 0 that become black and white."""


@dataclass(frozen=True, kw_only=True)
class TotalSegmentatorDataset(SegmentedDataset):
    """TotalSegmentator's CT or MRI (how.paths.images): s0001/ct.nii.gz or mri.nii.gz, s0001/segmentations, meta.csv.

    Each slice of each plane is a row, each organ a label: 1 where the slice shows it.
    """

    needs = ("images",)
    reads_all = True
    kind: Literal["totalsegmentator"]
    name: str = "totalsegmentator"

    def rows(self, paths: Paths) -> Rows:
        """Return the rows, reading mask after mask in this process; a run has stage `organs` for it."""
        meta, skipped = metadata(paths), Counter[str]()
        work = OrganWork(listed(self, paths, skipped))
        return segmentator_rows(self, map(work.prepare, sorted(work.rows)), skipped, meta)

    def content(self, paths: Paths) -> dict[str, Any]:
        """Hash meta.csv, and the names and sizes of the files."""
        return {"meta": sha256(_meta(paths)[0]), "files": files(paths)}


@dataclass(frozen=True)
class SegmentedVolume:
    """One volume, identified by its file's name."""

    volume: str

    @property
    def patient(self) -> str:
        """The patient's id: the first folder of the volume's name, s0001."""
        return self.volume.partition("/")[0]

    @property
    def modality(self) -> str:
        """The modality in the file's name, ct or mri."""
        return VOLUMES[self.volume.rpartition("/")[2]]


@dataclass(frozen=True)
class Slices:
    """The rows of one volume in one plane."""

    plane: str
    indices: np.ndarray
    labels: dict[str, np.ndarray]
    """Organ -> bool per index, without organs that have no mask."""


def segmentator_rows(
    dataset: SegmentedDataset,
    parts: Iterable[pa.Table],
    passed_over: Mapping[str, int],
    meta: Mapping[str, Mapping[str, str]],
) -> Rows:
    """Return all rows, from the parts of `organs` (one after the other) and the counts of files passed over in the
    listing."""
    skipped = Counter(passed_over)
    made: list[tuple[SegmentedVolume, Slices]] = []
    known: set[str] = set()
    patients: set[str] = set()
    for found in (scan for part in parts for scan in seen(part)):
        scan = SegmentedVolume(found.volume)
        patients.add(scan.patient)
        known |= found.named
        skipped.update(found.reasons)
        if found.slices is not None:
            cut = [_of_plane(plane, found, dataset.every) for plane in dataset.planes]
            skipped["volume no_organ"] += not any(len(one.indices) for one in cut)
            made += [(scan, one) for one in cut]
    skipped["no_volume"] += len(set(meta) - patients)
    return _rows_of(dataset, dataset.organs or sorted(known), made, meta, skipped)


def _of_plane(plane: str, found: Seen, every: int) -> Slices:
    first, last = 0, len(found.slices[plane]) if found.slices else 0
    if found.organs:
        shown = np.flatnonzero(np.any([planes[plane] for planes in found.organs.values()], axis=0))
        first, last = (int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, 0)
    indices = np.arange(first, last, every)
    return Slices(plane, indices, {organ: planes[plane][indices] for organ, planes in found.organs.items()})


def _rows_of(
    dataset: SegmentedDataset,
    organs: Sequence[str],
    made: list[tuple[SegmentedVolume, Slices]],
    meta: Mapping[str, Mapping[str, str]],
    skipped: Counter[str],
) -> Rows:
    keys = [(scan, cut.plane, int(index)) for scan, cut in made for index in cut.indices]
    windows = {scan.volume: _window(dataset, scan, meta.get(scan.patient, {})) for scan, _ in made}
    columns = {name: [meta.get(scan.patient, {}).get(name) for scan, _, _ in keys] for name in COLUMNS}
    plain = {"plane": [plane for _, plane, _ in keys], "modality": [scan.modality for scan, _, _ in keys]}
    return Rows(
        dataset=dataset.name,
        image_id=[f"{scan.patient}/{scan.modality}/{plane}/{index:04d}" for scan, plane, index in keys],
        patient_id=[scan.patient for scan, _, _ in keys],
        uri=[f"{s.volume}#{plane}={index}&window={windows[s.volume]}" for s, plane, index in keys],
        labels={organ: _label(organ, made) for organ in organs},
        metadata={name: pa.array(values, pa.string()) for name, values in (plain | columns).items()},
        notes={"passed_over": dict(sorted((+skipped).items())), "scans": len({scan.volume for scan, _ in made})},
    )


def _label(organ: str, made: list[tuple[SegmentedVolume, Slices]]) -> pa.Array:
    unknown = {len(cut.indices): pa.nulls(len(cut.indices), pa.int8()) for _, cut in made}
    parts = [
        pa.array(cut.labels[organ].astype(np.int8)) if organ in cut.labels else unknown[len(cut.indices)]
        for _, cut in made
    ]
    return pa.concat_arrays(parts) if parts else pa.nulls(0, pa.int8())


def _window(dataset: SegmentedDataset, scan: SegmentedVolume, about: Mapping[str, str]) -> str:
    if scan.modality == "MR":
        return "p" + _ends(*dataset.mri_percentiles)
    return _ends(*(dataset.ct_window or ct_window(about.get("study_type"))))


def _ends(low: float, high: float) -> str:
    """Format the two ends as a uri has them: plain digits, whatever their size."""
    return ":".join(np.format_float_positional(end, trim="-") for end in (low, high))


def read_meta(data: bytes, where: str) -> dict[str, dict[str, str]]:
    """Read meta.csv: patient -> metadata. DatasetError if it is not a table with image_id."""
    table = read_table(data, where)
    if "image_id" not in table.column_names:
        raise DatasetError(f"{where} has no column image_id; {other_columns(table, 'image_id')}")
    columns = {"image_id": "image_id", **{name: c for name, c in COLUMNS.items() if c in table.column_names}}
    texts = {name: text(table, column, where).to_pylist() for name, column in columns.items()}
    rows = [dict(zip(texts, cells, strict=True)) for cells in zip(*texts.values(), strict=True)]
    return {
        row.pop("image_id"): {name: value for name, value in row.items() if value not in (None, *_NOT_GIVEN)}
        for row in rows
    }


def _meta(paths: Paths) -> tuple[bytes, str]:
    """Read how.paths.table, or meta.csv in the folder itself."""
    where = paths.table or f"{str(paths.images).rstrip('/')}/meta.csv"
    try:
        return fetch(Store(str(paths.images)), where), where
    except (ImageError, OSError) as error:
        raise DatasetError(f"{where} cannot be read: {error}; how.paths.table may say where meta.csv is") from error


def listed(dataset: TotalSegmentatorDataset, paths: Paths, skipped: Counter[str]) -> list[ScanShard]:
    """Return the dataset's scans as the shards of `organs`."""
    return wards(Store(str(paths.images)), dataset.organs, skipped)


def metadata(paths: Paths) -> dict[str, dict[str, str]]:
    """Read meta.csv: patient id -> column -> value."""
    return read_meta(*_meta(paths))


def files(paths: Paths) -> str:
    """Compute the SHA-256 of the sorted names and sizes of all files used."""
    found = scans(Store(str(paths.images)), Counter())
    sizes = [(file.name, file.size) for scan in found for file in (scan.volume, *scan.masks.values())]
    return hashlib.sha256(json.dumps(sorted(sizes)).encode()).hexdigest()
