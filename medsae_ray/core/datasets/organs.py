"""The slices of TotalSegmentator's scans that show each organ: the work of stage `organs`, one row per file.

A scan is `s0001/ct.nii.gz` or `s0001/mri.nii.gz` with a mask per organ, `s0001/segmentations/liver.nii.gz`. A worker
holds one mask at a time.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.images.archives import FoundFile, fetch, opened, walk
from medsae_ray.core.images.nifti import AXES, Volume, header_shape
from medsae_ray.errors import DatasetError, ImageError

VOLUMES = {"ct.nii.gz": "CT", "mri.nii.gz": "MR"}
MASKS = "segmentations"
SCANS_PER_SHARD = 8
_END = ".nii.gz"
_HEAD = 2**20  # compressed bytes that hold a header, with its extensions

Shown = Mapping[str, np.ndarray]
"""Plane -> bool per slice."""


class ScanFiles(NamedTuple):
    """The files of one volume and its masks."""

    volume: FoundFile
    masks: dict[str, FoundFile]
    """Organ -> its mask."""


class Seen(NamedTuple):
    """The slices that were read from one scan."""

    volume: str
    """The name of the volume's file."""
    slices: Shown | None
    """All slices of the volume; None if its header cannot be used."""
    organs: dict[str, Shown]
    """Organ -> the slices that show it, without organs that have no mask or none that fits."""
    named: set[str]
    """The organs with a mask, whatever the mask holds."""
    reasons: list[str]
    """The reasons why files were passed over: "volume corrupt", "mask truncated"."""


def scans(store: Store, skipped: Counter[str]) -> list[ScanFiles]:
    """Return every scan in the folder, by name. A file outside the layout is ignored."""
    found = {file.name: file for file in walk(store, ".", skipped)}
    masks: dict[str, dict[str, FoundFile]] = {}
    for name, file in found.items():
        patient, _, rest = name.partition(f"/{MASKS}/")
        if rest.endswith(_END) and "/" not in patient + rest:
            masks.setdefault(patient, {})[sys.intern(rest.removesuffix(_END))] = file
    volumes = [name.partition("/") for name in sorted(found)]
    return [
        ScanFiles(found[f"{patient}/{name}"], masks.get(patient, {})) for patient, _, name in volumes if name in VOLUMES
    ]


class ScanShard(NamedTuple):
    """The files of one shard, kept small because it is sent to every worker."""

    store: Store
    scans: list[tuple[str, list[str]]]
    """The volume's name, and the organs whose masks are read."""


def wards(store: Store, wanted: Sequence[str], skipped: Counter[str]) -> list[ScanShard]:
    """Group the folder's scans with the masks of `wanted` organs (none: all), a few scans per shard.

    Raises DatasetError for a folder without scans, or an organ without a mask in any of them.
    """
    found = scans(store, skipped)
    missing = sorted(set(wanted) - {organ for scan in found for organ in scan.masks})
    if not found or missing:
        what = f"no mask of {', '.join(missing)}" if found else "no s0001/ct.nii.gz or s0001/mri.nii.gz"
        raise DatasetError(f"how.paths.images has {what}; it is TotalSegmentator's folder, with a folder per scan")
    chosen = [(scan.volume.name, sorted(set(wanted or scan.masks) & set(scan.masks))) for scan in found]
    return [ScanShard(store, chosen[at : at + SCANS_PER_SHARD]) for at in range(0, len(chosen), SCANS_PER_SHARD)]


@dataclass(frozen=True)
class OrganWork:
    """The reading of the masks of a shard's scans. All of the work is reading, and `compute` adds nothing."""

    wards: list[ScanShard]
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        counts = {shard: sum(1 + len(organs) for _, organs in ward.scans) for shard, ward in enumerate(self.wards)}
        object.__setattr__(self, "rows", counts)

    def load(self) -> None:
        """Load nothing: no model is needed."""

    def prepare(self, shard: int) -> pa.Table:
        """Read the masks of a shard's scans: one row of the organs schema per file."""
        ward = self.wards[shard]
        rows = [row for volume, organs in ward.scans for row in scan_rows(ward.store, volume, organs)]
        return pa.Table.from_pylist(rows, schema=schema.organs())

    def compute(self, model: None, prepared: pa.Table) -> pa.Table:
        """Return `prepared` unchanged: the organs are found while reading."""
        return prepared


def scan_rows(store: Store, volume: str, organs: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield rows of the organs schema: the volume's, then one for each mask. OSError if the store does not answer."""
    try:
        with opened(store, volume) as stream:
            shape = header_shape(stream.read(_HEAD)).canonical
    except ImageError as error:
        yield {"volume": volume, "reason": error.reason}
        yield from ({"volume": volume, "organ": organ, "reason": "unusable_volume"} for organ in organs)
        return
    yield {"volume": volume, **{plane: np.ones(shape[axis], bool) for plane, axis in AXES.items()}}
    for organ in organs:
        try:
            mask = Volume(fetch(store, f"{volume.rpartition('/')[0]}/{MASKS}/{organ}{_END}"))
            if mask.voxels_XYZ.shape != shape:
                raise ImageError("mask_of_other_size", "its voxels are not the volume's")
            yield {"volume": volume, "organ": organ, **mask.present()}
        except ImageError as error:
            yield {"volume": volume, "organ": organ, "reason": error.reason}


def seen(part: pa.Table) -> Iterator[Seen]:
    """Yield the scans of one part, in its order."""
    volumes, organs, reasons = (part[name].to_pylist() for name in ("volume", "organ", "reason"))
    planes = {plane: part[plane].combine_chunks() for plane in AXES}
    scan: Seen | None = None
    for row, (volume, organ, reason) in enumerate(zip(volumes, organs, reasons, strict=True)):
        shown = None if reason else {plane: _values(column, row) for plane, column in planes.items()}
        if organ is None:
            if scan:
                yield scan
            scan = Seen(volume, shown, {}, set(), [f"volume {reason}"] if reason else [])
            continue
        assert scan is not None  # a volume's row comes before those of its masks
        scan.named.add(organ)
        if shown:
            scan.organs[organ] = shown
        elif scan.slices:
            scan.reasons.append(f"mask {reason}")
    if scan:
        yield scan


def _values(column: pa.ListArray, row: int) -> np.ndarray:
    return np.asarray(column[row].values.to_numpy(zero_copy_only=False), dtype=bool)
