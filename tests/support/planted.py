"""A DICOM archive and a table of images whose every identifier is an unmistakable text, and a look for these texts."""

import csv
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.support.medical import dicom
from tests.support.small import SIZE

NAME, STUDY, IMAGE = "ZQXJV", "77777123", "88888123"
MARKS = tuple(mark.encode(code) for mark in (NAME, STUDY, IMAGE) for code in ("ascii", "utf-16-le"))
SIGNS = {"bright": np.s_[:20, :], "left": np.s_[:, :20]}


def pixels(rng: np.random.Generator, present: dict[str, int]) -> np.ndarray:
    found = rng.normal(1000, 100, (40, 40))
    for sign, shown in present.items():
        found[SIGNS[sign]] += 600 * shown
    return found.clip(0, 4095).astype(np.uint16)


def signs(rng: np.random.Generator) -> dict[str, int]:
    return dict(zip(SIGNS, (rng.random(2) < 0.5).astype(int).tolist(), strict=True))


def archive(folder: Path, patients: int, seed: int = 0) -> Path:
    """A folder per patient, an image in each, and what an export has besides; the folder's own name is one more."""
    rng, place = np.random.default_rng(seed), folder / f"{NAME}^JANE export"
    rows = []
    for number in range(patients):
        present = signs(rng)
        who, uid = f"{NAME}-{number:04d}", f"1.2.{IMAGE}.{number}"
        told = {
            "PatientName": f"{NAME}^JANE^{number}",
            "StudyInstanceUID": f"1.2.{STUDY}.{number}",
            "SOPInstanceUID": uid,
            "AccessionNumber": f"{NAME}{number}",
            "InstitutionName": f"{NAME} hospital",
            "ReferringPhysicianName": f"{NAME}^DOCTOR",
            "BodyPartExamined": f"{NAME}CHEST",
            "ImageComments": f"for {NAME}",
            "WindowCenter": 1300,
            "WindowWidth": 2000,
        }
        file = place / who / f"{NAME}_{number}.dcm"
        file.parent.mkdir(parents=True)
        data = dicom(pixels(rng, present), patient=who, **told)
        file.write_bytes(data if number % 20 else data[:-900])
        rows.append({"SOPInstanceUID": uid, "who": who, **present})
    (place / f"{NAME}.txt").write_text(NAME)
    (place / f"{NAME}.zip").write_bytes(b"PK no archive")
    with zipfile.ZipFile(place / f"{NAME}_more.zip", "w") as zipped:
        zipped.writestr(f"../{NAME}.dcm", b"")
        zipped.writestr(f"{NAME}.dcm", dicom(pixels(rng, {}), patient=f"{NAME}-zip", SOPInstanceUID=f"1.2.{IMAGE}.999"))
    return write_table(place / f"{NAME}.csv", rows)


def pictures(folder: Path, patients: int, seed: int = 1) -> Path:
    """The same signs in PNG files that a table names."""
    rng, place = np.random.default_rng(seed), folder / f"{NAME} pictures"
    rows = []
    for number in range(patients):
        present, file = signs(rng), place / f"{NAME}-{number:04d}" / f"{NAME}_{number}.png"
        file.parent.mkdir(parents=True)
        Image.fromarray((pixels(rng, present) // 16).astype(np.uint8)).save(file)
        rows.append({"path": str(file.relative_to(place)), "who": f"{NAME}-{number:04d}", **present})
    (place / rows[3]["path"]).unlink()
    (place / rows[4]["path"]).write_text(NAME)
    return write_table(place / f"{NAME}.csv", rows)


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def recipe(weights: Path, archive: Path, pictures: Path | None = None, **how: Any) -> dict[str, Any]:
    """Names features over the archive, or over archive and pictures together."""
    columns = {"kind": "table", "image": "path", "patient": "who", "labels": list(SIGNS), "name": "pictures"}
    frames = {"kind": "dicom", "name": "archive", "labels": list(SIGNS)}
    files = {"table": str(archive), "images": str(archive.parent)}
    several = {
        "datasets": [frames, columns],
        "labels": {sign: {"archive": sign, "pictures": sign} for sign in SIGNS},
    }
    data: dict[str, Any] = {
        "name": "planted",
        "what": {
            **(several if pictures else {"dataset": frames}),
            "privacy": {"hash_ids": True},
            "split": {"sae": 0.4, "naming": 0.25, "detection": 0.35},
            "shard_rows": 32,
            "encoder": {"kind": "onnx", "size": SIZE},
            "sae": {"architecture": "batch_topk", "width": 6, "k": 2, "epochs": 20, "batch_size": 16},
            "features": {"top_images": 4, "permutations": 2},
            "naming": {
                "positives": 3,
                "contrasts": 2,
                "attempts": 1,
                "max_tokens": 256,
                "image_size": 64,
                "detection": {"positives": 10, "negatives": 10, "support": 10, "pool": 20, "random_names": 1},
            },
        },
        "how": {"vlm": {"model": "builtin:phantom-vlm", "dtype": "float32", "cpus": 0.5, "in_flight": 8}, **how},
    }
    data["how"]["paths"] = {"weights": str(weights)} | (
        {"datasets": {"archive": files, "pictures": {"table": str(pictures)}}} if pictures else files
    )
    return data


def marked(data: bytes | str) -> bool:
    found = data.encode() if isinstance(data, str) else data
    return any(mark in found for mark in MARKS)


def leaks_of_root(root: Path) -> Iterator[str]:
    """Files below a run's root that hold a planted text. The manifest's column `uri` is where images lie, and is left
    out; with it go the raw bytes of its parts."""
    for path in sorted(root.rglob("*")):
        if not path.is_file():
            continue
        if marked(str(path.relative_to(root))):
            yield f"name {path}"
        manifest = path.parent.name.startswith("manifest-")
        if path.suffix == ".parquet":
            yield from leaks_of_table(pq.read_table(path), str(path), {"uri"} if manifest else set())
        if not (manifest and path.suffix == ".parquet") and marked(path.read_bytes()):
            yield f"bytes of {path}"


def leaks_of_table(table: pa.Table, where: str, but: Iterable[str]) -> Iterator[str]:
    for name in set(table.column_names) - set(but):
        if marked(name) or marked(json.dumps(table[name].to_pylist(), default=str)):
            yield f"column {name} of {where}"


def leaks_of_logs(folder: Path) -> Iterator[str]:
    """Log files of a cluster that hold a planted text."""
    yield from (str(path) for path in sorted(folder.rglob("*")) if path.is_file() and marked(path.read_bytes()))
