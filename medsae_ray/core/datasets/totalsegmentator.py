"""Dataset `totalsegmentator`: CT or MRI volumes with a mask per organ; each slice of each plane is a row.

| of | is |
|---|---|
| a patient | the folder's name, s0001: one scan |
| a label | organ -> 1 if the slice shows any of its mask, 0 if not, null if there is no mask of it, or none that fits |
| a volume's rows | axial from below, coronal from behind, sagittal from the left, without edges (below) |
| metadata | plane, modality, and what meta.csv says: sex, age, institute, study_type, manufacturer, scanner, ... |

Edges are the slices before the first and after the last that show an organ, per plane; SAIL leaves them out too. A scan
without any mask keeps all of its slices, and its labels are null.

Rows of one scan follow each other, so that a shard reads a volume once for all of its planes. The identity is the
SHA-256 of the sorted names and sizes of all files used, with that of meta.csv: masks are not read for it.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from medsae_ray.core.artifact import sha256
from medsae_ray.core.datasets.columns import other_columns, without_cells
from medsae_ray.core.datasets.rows import Reader, Rows
from medsae_ray.core.datasets.windows import ct_window
from medsae_ray.core.files import Found, fetch, opened, walk
from medsae_ray.core.nifti import Volume, header_shape
from medsae_ray.core.storage import Store
from medsae_ray.errors import DatasetError, ImageError

if TYPE_CHECKING:
    from medsae_ray.config import Paths, TotalSegmentatorDataset

VOLUMES = {"ct.nii.gz": "CT", "mri.nii.gz": "MR"}
MASKS = "segmentations"
_END = ".nii.gz"
_HEAD = 2**20  # compressed bytes that hold a header, with its extensions
COLUMNS = {
    **{"sex": "gender", "age": "age", "institute": "institute", "study_type": "study_type"},
    **{"manufacturer": "manufacturer", "scanner": "scanner_model", "kvp": "kvp", "pathology": "pathology"},
    "split": "split",
}
"""Metadata -> column of meta.csv."""


@dataclass(frozen=True)
class Scan:
    """One volume and its masks, as files."""

    patient: str
    volume: Found
    masks: dict[str, Found]

    @property
    def modality(self) -> str:
        return VOLUMES[self.volume.name.rpartition("/")[2]]


@dataclass(frozen=True)
class Slices:
    """The rows of one volume in one plane."""

    plane: str
    indices: np.ndarray
    labels: dict[str, np.ndarray]
    """Organ -> bool per index; an organ without a mask is not in it."""


def scans(store: Store, skipped: Counter[str]) -> list[Scan]:
    """Every scan in the folder, by name. A file that is no part of the layout is left alone."""
    found = {file.name: file for file in walk(store, ".", skipped)}
    masks: dict[str, dict[str, Found]] = {}
    for name, file in found.items():
        patient, _, rest = name.partition(f"/{MASKS}/")
        if rest.endswith(_END) and "/" not in patient + rest:
            masks.setdefault(patient, {})[rest.removesuffix(_END)] = file
    volumes = [name.partition("/") for name in sorted(found)]
    return [
        Scan(patient, found[f"{patient}/{name}"], masks.get(patient, {}))
        for patient, _, name in volumes
        if name in VOLUMES
    ]


def slices(
    store: Store, scan: Scan, organs: Sequence[str], planes: Sequence[str], every: int, skipped: Counter[str]
) -> list[Slices]:
    """The rows of one scan; its masks are read one at a time. ImageError if its volume's header cannot be used."""
    with opened(store, scan.volume.name) as stream:
        shape = header_shape(stream.read(_HEAD)).canonical
    present: dict[str, dict[str, np.ndarray]] = {}
    for organ in organs:
        if organ in scan.masks:
            try:
                mask = Volume(fetch(store, scan.masks[organ].name))
                if mask.voxels_XYZ.shape != shape:
                    raise ImageError("mask_of_other_size", "its voxels are not the volume's")
                present[organ] = mask.present()
            except ImageError as error:
                skipped[f"mask {error.reason}"] += 1
    counts = dict(zip(("sagittal", "coronal", "axial"), shape, strict=True))
    return [_of_plane(plane, counts[plane], present, every) for plane in planes]


def _of_plane(plane: str, count: int, present: Mapping[str, Mapping[str, np.ndarray]], every: int) -> Slices:
    first, last = 0, count
    if present:
        shown = np.flatnonzero(np.any([planes[plane] for planes in present.values()], axis=0))
        first, last = (int(shown[0]), int(shown[-1]) + 1) if len(shown) else (0, 0)
    indices = np.arange(first, last, every)
    return Slices(plane, indices, {organ: planes[plane][indices] for organ, planes in present.items()})


def segmentator_rows(store: Store, dataset: "TotalSegmentatorDataset", meta: Mapping[str, Mapping[str, str]]) -> Rows:
    """All rows. Raises DatasetError for a folder without scans, or an organ that none of them has a mask of."""
    skipped: Counter[str] = Counter()
    found = scans(store, skipped)
    known = sorted({organ for scan in found for organ in scan.masks})
    organs = dataset.organs or known
    if not found or (missing := sorted(set(organs) - set(known))):
        what = f"no mask of {', '.join(missing)}" if found else "no s0001/ct.nii.gz or s0001/mri.nii.gz"
        raise DatasetError(f"how.paths.images has {what}; it is TotalSegmentator's folder, with a folder per scan")
    skipped["no_volume"] += len(set(meta) - {scan.patient for scan in found})
    made: list[tuple[Scan, Slices]] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for scan, cut, counts in pool.map(lambda scan: _cut(store, scan, organs, dataset), found):
            skipped += counts
            made += [(scan, one) for one in cut]
    return _rows_of(dataset, organs, made, meta, skipped)


def _cut(
    store: Store, scan: Scan, organs: Sequence[str], dataset: "TotalSegmentatorDataset"
) -> tuple[Scan, list[Slices], Counter[str]]:
    skipped: Counter[str] = Counter()
    try:
        made = slices(store, scan, organs, dataset.planes, dataset.every, skipped)
        skipped["volume no_organ"] += not any(len(one.indices) for one in made)
        return scan, made, skipped
    except ImageError as error:
        skipped[f"volume {error.reason}"] += 1
        return scan, [], skipped


def _rows_of(
    dataset: "TotalSegmentatorDataset",
    organs: Sequence[str],
    made: list[tuple[Scan, Slices]],
    meta: Mapping[str, Mapping[str, str]],
    skipped: Counter[str],
) -> Rows:
    keys = [(scan, cut.plane, int(index)) for scan, cut in made for index in cut.indices]
    windows = {scan.volume.name: _window(dataset, scan, meta.get(scan.patient, {})) for scan, _ in made}
    columns = {name: [meta.get(scan.patient, {}).get(name) for scan, _, _ in keys] for name in COLUMNS}
    plain = {"plane": [plane for _, plane, _ in keys], "modality": [scan.modality for scan, _, _ in keys]}
    return Rows(
        dataset=dataset.name,
        image_id=[f"{scan.patient}/{scan.modality}/{plane}/{index:04d}" for scan, plane, index in keys],
        patient_id=[scan.patient for scan, _, _ in keys],
        uri=[f"{s.volume.name}#{plane}={index}&window={windows[s.volume.name]}" for s, plane, index in keys],
        labels={organ: _label(organ, made) for organ in organs},
        metadata={name: pa.array(values, pa.string()) for name, values in (plain | columns).items()},
        notes={"passed_over": dict(sorted((+skipped).items())), "scans": len({scan.volume.name for scan, _ in made})},
    )


def _label(organ: str, made: list[tuple[Scan, Slices]]) -> pa.Array:
    unknown = {len(cut.indices): pa.nulls(len(cut.indices), pa.int8()) for _, cut in made}
    parts = [
        pa.array(cut.labels[organ].astype(np.int8)) if organ in cut.labels else unknown[len(cut.indices)]
        for _, cut in made
    ]
    return pa.concat_arrays(parts) if parts else pa.nulls(0, pa.int8())


def _window(dataset: "TotalSegmentatorDataset", scan: Scan, about: Mapping[str, str]) -> str:
    if scan.modality == "MR":
        return "p{:g}:{:g}".format(*dataset.mri_percentiles)
    return "{:g}:{:g}".format(*(dataset.ct_window or ct_window(about.get("study_type"))))


def read_meta(data: bytes, where: str) -> dict[str, dict[str, str]]:
    """meta.csv: patient -> metadata. DatasetError if it is no table with image_id."""
    first = data[:4096].partition(b"\n")[0]
    parsing = pacsv.ParseOptions(delimiter=";" if first.count(b";") >= first.count(b",") else ",")
    try:
        header = pacsv.open_csv(pa.BufferReader(data), parse_options=parsing).schema.names
        types = pacsv.ConvertOptions(column_types=dict.fromkeys(header, pa.string()), strings_can_be_null=True)
        table = pacsv.read_csv(pa.BufferReader(data), parse_options=parsing, convert_options=types)
    except pa.ArrowInvalid as error:
        raise DatasetError(f"{where} is not a CSV table: {without_cells(error)}") from None
    if "image_id" not in table.column_names:
        raise DatasetError(f"{where} has no column image_id; {other_columns(table, 'image_id')}")
    rows = table.select([c for c in ("image_id", *COLUMNS.values()) if c in table.column_names]).to_pylist()
    return {row["image_id"]: {name: row[column] for name, column in COLUMNS.items() if row.get(column)} for row in rows}


def _meta(paths: "Paths") -> tuple[bytes, str]:
    """how.paths.table, or meta.csv in the folder itself."""
    where = paths.table or f"{str(paths.images).rstrip('/')}/meta.csv"
    try:
        return fetch(Store(str(paths.images)), where), where
    except (ImageError, OSError) as error:
        raise DatasetError(f"{where} cannot be read: {error}; how.paths.table may say where meta.csv is") from error


def _rows(dataset: "TotalSegmentatorDataset", paths: "Paths") -> Rows:
    return segmentator_rows(Store(str(paths.images)), dataset, read_meta(*_meta(paths)))


def _identity(dataset: "TotalSegmentatorDataset", paths: "Paths") -> dict[str, Any]:
    files = [
        (file.name, file.size)
        for scan in scans(Store(str(paths.images)), Counter())
        for file in (scan.volume, *scan.masks.values())
    ]
    return {
        "meta": sha256(_meta(paths)[0]),
        "files": hashlib.sha256(json.dumps(sorted(files)).encode()).hexdigest(),
    }


TOTALSEGMENTATOR = Reader(_rows, _identity)
