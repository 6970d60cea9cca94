"""Small copies of the papers' datasets in the layout of the published ones, with phantoms as images and boxes as
organs, and a model that answers by what it is sent."""

import base64
import io
import json
import math
import re
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image

from medsae_ray.config import load_recipe
from medsae_ray.core.datasets.chexpert import LABELS
from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render
from tests.core.datasets.layouts import csv_text
from tests.core.naming.plain_engine import reply
from tests.support.medical import nifti

SIDES = (18, 16, 14)
META = "image_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp;pathology"


def chexpert_phantoms(folder: Path, patients: int, seed: int = 7) -> Path:
    """CheXpert-v1.0-small/train.csv and its images: one frontal image of each study of as many phantom patients.

    A corner is white in images without a finding, so that a model may see them.
    """
    rows = []
    for number in range(patients):
        for study in patient(seed, number):
            place = f"train/patient{number + 1:05d}/study{study.index}/view1_frontal.jpg"
            file = folder / "CheXpert-v1.0-small" / place
            file.parent.mkdir(parents=True, exist_ok=True)
            pixels = render(study)
            pixels[:72, :72] = 0 if any(study.truth.values()) else 255
            Image.fromarray(pixels).save(file)
            labels = ["" if study.labels[label] is None else f"{study.labels[label]}.0" for label in LABELS]
            about = ["Female" if study.sex == "F" else "Male", study.age, "Frontal", study.view]
            rows.append([f"CheXpert-v1.0-small/{place}", *about, *labels])
    table = folder / "CheXpert-v1.0-small" / "train.csv"
    table.write_text(csv_text(["Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *LABELS], rows))
    return table


def organs_of(dataset: str) -> list[str]:
    """The organs that the recipe of SAIL names of its dataset `ct` or `mr`, and one that this alone has."""
    named = [names[dataset] for names in load_recipe("sail-paper").what.labels.values() if dataset in names]
    return [*named, {"ct": "skull", "mr": "vertebrae"}[dataset]]


def sail_scans(folder: Path, dataset: str, patients: int, seed: int = 0) -> Path:
    """TotalSegmentator's `ct` or `mr` with all organs that the recipe of SAIL names, of which half are in a scan.

    Four organs and the pathology show in the voxels. Institutions are A to J in turn, and ten scans have an organ that
    the next ten lack, so that of 40 half of each institution's have it.
    """
    rng, name = np.random.default_rng(seed), {"ct": "ct.nii.gz", "mr": "mri.nii.gz"}[dataset]
    lines, organs = [META], organs_of(dataset)
    for number in range(patients):
        place = folder / f"s{number:04d}"
        (place / "segmentations").mkdir(parents=True)
        voxels = rng.normal(100, 20, SIDES)
        for at, organ in enumerate(organs):
            there = (number // 10 + at) % 2 == 0
            (place / "segmentations" / f"{organ}.nii.gz").write_bytes(_box(at % 4 if there else None))
            if there and organ in ("liver", "brain", "heart", "spleen"):
                voxels[_corner(at % 4)] += 150
        tumor = number // 20 % 2 == 0
        voxels[6:12] += 60 * tumor
        (place / name).write_bytes(nifti(voxels.astype(np.int16)))
        about = ["fm"[number % 2], "ABCDEFGHIJ"[number % 10], f"{dataset} thorax", ("train", "val", "test")[number % 3]]
        finding = "tumor" if tumor else "trauma" if number % 4 else "no_pathology"
        lines.append(f"{place.name};{20 + 70 * (number % 3) // 2};{';'.join(about)};siemens;Skyra;120.0;{finding}")
    (folder / "meta.csv").write_text("\n".join(lines))
    return folder


def _corner(at: int) -> tuple[slice, ...]:
    x, y = (slice(2, 8) if bit else slice(9, 15) for bit in divmod(at, 2))
    return x, y, slice(3, 11)


@cache
def _box(at: int | None) -> bytes:
    mask = np.zeros(SIDES, np.uint8)
    if at is not None:
        mask[_corner(at)] = 1
    return nifti(mask)


def told(body: dict[str, Any]) -> tuple[int, Any]:
    """Says yes the more the brighter a corner of the image is, so that it sees some labels.

    SAIL's names and rankings go by the metadata that it is told, and by chance without any, as the other names do.
    """
    chance = crc32(json.dumps(body, sort_keys=True).encode())
    asked = body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", {})
    texts = [part["text"] for part in body["messages"][0]["content"] if part["type"] == "text"]
    about = " ".join(line for line in texts if line.startswith("Image "))
    if "per_image" in asked:
        text = reply(per_image=["bright"] * 3, name=f"thing {chance % 97}")
    elif "name" in asked:
        organs = re.findall(r"[a-z]+_[a-z_]+", about)
        text = json.dumps({"name": organs[chance % len(organs)] if organs else f"thing {chance % 97}"})
    elif "ranking" in asked:
        names = re.findall(r"^([A-E]): (.*)$", texts[-1], flags=re.MULTILINE)
        ranked = sorted(
            names, key=lambda pair: (-len(re.findall(rf"\b{re.escape(pair[1])}\b", about)), crc32(pair[1].encode()))
        )
        text = json.dumps({"ranking": [letter for letter, _ in ranked]})
    else:
        text = "yes"
    likely = [{"token": word, "logprob": math.log(p)} for word, p in zip(("yes", "no"), _corners(body), strict=True)]
    return 200, {"choices": [{"message": {"content": text}, "logprobs": {"content": [{"top_logprobs": likely}]}}]}


def _corners(body: dict[str, Any]) -> tuple[float, float]:
    """P(yes) and P(no), by the corner of the first image; equal without one."""
    parts = (part for part in body["messages"][0]["content"] if part["type"] == "image_url")
    if (part := next(parts, None)) is None:
        return 0.5, 0.5
    image = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2]))).convert("L")
    yes = 0.05 + 0.9 * float(np.asarray(image)[:10, :10].mean()) / 255
    return yes, 1 - yes
