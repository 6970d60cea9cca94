"""TotalSegmentator's two datasets without voxels: folders of empty files, meta.csv, and the artifact `organs`.

Each organ is a box in the body, each scan a window along the body's length, so that neighbouring slices show like
organs and a scan shows some of them. The last organ is everywhere, so that every slice of a scan is a row.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from rich.console import Console

from medsae_ray.config import Recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Receipt
from medsae_ray.core.artifacts.metrics import OrgansMetrics, OrgansOfDataset
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.organs import SCANS_PER_SHARD
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.made import Made, commit, now
from medsae_ray.runtime.run import Run

SCANS = {"ct": 1228, "mr": 616}
"""The scans of TotalSegmentator's CT (v2.0.1) and MRI (v2.0.0)."""
SLICES = 909_873
ORGANS = {"ct": 117, "mr": 50}
FILES = {"ct": "ct.nii.gz", "mr": "mri.nii.gz"}
FEWEST = 60
"""The scans of a small trial, so that every split has patients."""
PLANES = ("axial", "coronal", "sagittal")
_META = "image_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp;pathology"


class Scan(NamedTuple):
    """One scan of a dataset."""

    dataset: str
    number: int
    slices: tuple[int, int, int]
    """Slices in each of `PLANES`."""

    @property
    def patient(self) -> str:
        """The folder's name."""
        return f"s{self.number:04d}"


def scans_of(slices: int, seed: int = 0) -> list[Scan]:
    """Return scans with `slices` slices in all, the more the fewer slices there are."""
    rng = np.random.default_rng(seed)
    share = min(1.0, max(slices / SLICES, FEWEST / sum(SCANS.values())))
    names = [(name, number) for name, count in SCANS.items() for number in range(1, round(count * share) + 1)]
    weights = rng.lognormal(0, 0.4, (len(names), len(PLANES))).ravel()
    ends = np.round(np.cumsum(weights) / weights.sum() * slices).astype(int)
    sizes = np.diff(ends, prepend=0).reshape(-1, len(PLANES)).tolist()
    return [Scan(name, number, tuple(size)) for (name, number), size in zip(names, sizes, strict=True)]


def organ_names(recipe: Recipe) -> dict[str, list[str]]:
    """Return the organs of each dataset: those that the recipe maps, then made-up names up to the real number."""
    found = {}
    for name, count in ORGANS.items():
        mapped = [own[name] for own in recipe.what.labels.values() if name in own]
        found[name] = mapped + [f"more_{name}_{number:02d}" for number in range(count - len(mapped))]
    return found


def write_folders(recipe: Recipe, scans: list[Scan], folder: Path) -> None:
    """Write the folders ct and mr below `folder`: empty volumes and masks, and meta.csv."""
    organs, rng = organ_names(recipe), np.random.default_rng(1)
    meta = {name: [_META] for name in SCANS}
    for scan in scans:
        place = folder / scan.dataset / scan.patient
        (place / "segmentations").mkdir(parents=True, exist_ok=True)
        for file in (FILES[scan.dataset], *(f"segmentations/{organ}.nii.gz" for organ in organs[scan.dataset])):
            (place / file).touch()
        meta[scan.dataset].append(_about(scan, rng))
    for name, lines in meta.items():
        (folder / name / "meta.csv").write_text("\n".join(lines) + "\n")


def _about(scan: Scan, rng: np.random.Generator) -> str:
    study = str(rng.choice(["ct abdomen", "ct thorax", "ct whole body"])) if scan.dataset == "ct" else "mr"
    cells = {
        "image_id": scan.patient,
        "age": rng.integers(20, 95),
        "gender": rng.choice(["m", "f"]),
        "institute": "ABCDEFGHIJ"[scan.number % 10],
        "study_type": study,
        "split": "train",
        "manufacturer": f"maker {scan.number % 4}",
        "scanner_model": f"scanner {scan.number % 9}",
        "kvp": 120,
        "pathology": rng.choice(["no_pathology", "tumor", "bleeding"]),
    }
    return ";".join(str(cells[column]) for column in _META.split(";"))


def plant_organs(recipe: Recipe, scans: list[Scan], root: str) -> None:
    """Commit the artifact `organs` of the scans, a row per volume and mask."""
    with Run(recipe, Store(root), STAGES, Console(quiet=True)) as run:
        draft = run.draft(STAGES["organs"], {})
        if draft.committed():
            return
        start, clock, writer = now(), time.perf_counter(), draft.writer(schema.organs())
        names = organ_names(recipe)
        files: list[Receipt] = []
        about: list[OrgansOfDataset] = []
        for dataset in SCANS:
            own = [scan for scan in scans if scan.dataset == dataset]
            wards = [own[at : at + SCANS_PER_SHARD] for at in range(0, len(own), SCANS_PER_SHARD)]
            about.append(OrgansOfDataset(shards=[len(files), len(files) + len(wards)], passed_over={}))
            for ward in wards:
                rows = [row for scan in ward for row in _masks(scan, names[dataset])]
                files.append(writer.write(len(files), pa.Table.from_pylist(rows, schema=schema.organs()), len(rows)))
        commit(draft, Made(files, OrgansMetrics(datasets=about)), start, time.perf_counter() - clock)


def _masks(scan: Scan, organs: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the row of a scan's volume, then those of its masks."""
    volume = f"{scan.patient}/{FILES[scan.dataset]}"
    yield {"volume": volume, **{plane: np.ones(n, bool) for plane, n in zip(PLANES, scan.slices, strict=True)}}
    body, window = np.random.default_rng(2), np.random.default_rng([3, scan.dataset == "ct", scan.number])
    low = window.uniform(0, 0.6)
    high = low + window.uniform(0.2, 0.4)
    for organ in organs:
        middle, half = body.uniform(0.1, 0.9, 3), body.uniform(0.02, 0.25, 3)
        box = np.stack([middle - half, middle + half])
        if organ == organs[-1]:
            box = np.array([[-1.0] * 3, [2.0] * 3])
        seen = box[0, 0] < high and box[1, 0] > low
        shown = {}
        for axis, (plane, n) in enumerate(zip(PLANES, scan.slices, strict=True)):
            at = np.linspace(low, high, n) if axis == 0 else np.linspace(0, 1, n)
            shown[plane] = (at >= box[0, axis]) & (at <= box[1, axis]) & seen
        yield {"volume": volume, "organ": organ, **shown}
