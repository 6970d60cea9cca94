"""The tables of embeddings on which the defaults of an SAE are chosen, and others on which they are reported.

    python benchmarks/sae_tables.py --cache FOLDER [--nih FOLDER --encoders FOLDER]

Embeds the images of each table once, and writes FOLDER/<table>.npz with x_ND, y_NL (0 or 1) and patient_N. Phantoms
need nothing; `--nih` is a folder of radiographs with labels.csv (path, patient_id, findings), `--encoders` has
mobilenetv2_035.onnx and squeezenet11_cxr.onnx. Tables without their files are left out.
"""

import argparse
import csv
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.phantom import USUAL, Hospital, Study, patient
from medsae_ray.core.phantom.render import render

IMAGENET: dict[str, Any] = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
ONNX: dict[str, dict[str, Any]] = {"mobilenetv2_035": {"mean": 0.5, "std": 0.5}, "squeezenet11_cxr": IMAGENET}
SOFT = Hospital(prevalence=0.7, film="soft", marker="random")


class Rows(NamedTuple):
    """A table."""

    x_ND: np.ndarray
    y_NL: np.ndarray
    """Labels, 0 or 1."""
    patient_N: np.ndarray


class Pictures(NamedTuple):
    """What encoders are given."""

    images: list[Image.Image]
    y_NL: np.ndarray
    patient_N: np.ndarray


@cache
def phantoms(seed: int, patients: int, hospital: Hospital) -> Pictures:
    """Their truth, not what an annotator wrote down."""
    studies: list[Study] = [study for number in range(patients) for study in patient(seed, number, hospital)]
    truth_NL = np.array([list(study.truth.values()) for study in studies])
    images = [Image.fromarray(render(study)) for study in studies]
    return Pictures(images, truth_NL, np.array([study.patient_id for study in studies]))


@cache
def radiographs(folder: Path) -> Pictures:
    """The labels are the columns after `finding_labels`."""
    with (folder / "labels.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    names = list(rows[0])[list(rows[0]).index("finding_labels") + 1 :]
    images = [Image.open(folder / row["path"]).convert("L") for row in rows]
    y_NL = np.array([[int(row[name]) for name in names] for row in rows])
    return Pictures(images, y_NL, np.array([row["patient_id"] for row in rows]))


def embedded(pictures: Pictures, kind: str, weights: str, **options: Any) -> Rows:
    """Embed the pictures with an encoder."""
    encoder = load_encoder(kind, weights, threads=1, **options)
    return Rows(encoder.encode(pictures.images), pictures.y_NL, pictures.patient_N)


def embedded_radiographs(folder: Path, weights: str, options: dict[str, Any]) -> Rows:
    """Embed the radiographs of a folder with an ONNX model."""
    return embedded(radiographs(folder), "onnx", weights, **options)


def some(pictures: Pictures, part: slice) -> Pictures:
    """Return a part of the pictures."""
    return Pictures(pictures.images[part], pictures.y_NL[part], pictures.patient_N[part])


def patches(pictures: Pictures) -> Rows:
    """Every patch is a row with its image's labels."""
    encoder = load_encoder("medclip-vit", "builtin:phantom-encoder", threads=1)
    grid = np.stack([np.asarray(image) for image in pictures.images])
    x_NTD = np.concatenate([encoder.embed_tokens(part).x for part in np.array_split(grid, -(-len(grid) // 32))])
    each = x_NTD.shape[1]
    return Rows(x_NTD.reshape(-1, x_NTD.shape[2]), pictures.y_NL.repeat(each, 0), pictures.patient_N.repeat(each))


def planted(rows: int, dim: int, atoms: int, active: float, seed: int, tail: float = 0.0) -> Rows:
    """Sparse positive mixtures of unit atoms with noise; the r-th atom's rate falls as r^-tail. The labels are the
    sixteen commonest atoms."""
    rng = np.random.default_rng(seed)
    atoms_AD = rng.normal(size=(atoms, dim))
    atoms_AD /= np.linalg.norm(atoms_AD, axis=1, keepdims=True)
    rate_A = np.arange(1, atoms + 1) ** -tail
    on_NA = rng.random((rows, atoms)) < np.minimum(0.5, active * rate_A / rate_A.sum())
    x_ND = (on_NA * (0.5 + rng.random((rows, atoms)))) @ atoms_AD + 0.05 * rng.normal(size=(rows, dim))
    return Rows(x_ND.astype(np.float32), on_NA[:, :16].astype(int), np.arange(rows).astype(str))


def first(rows: Rows, count: int) -> Rows:
    """Return the first `count` rows."""
    return Rows(*(part[:count] for part in rows))


def tables(nih: Path | None, encoders: Path | None) -> dict[str, Callable[[], Rows]]:
    """How each table is made. Those above the line of the page are CHOSEN, the others REPORTED."""
    usual, soft = partial(phantoms, 31, 3200, USUAL), partial(phantoms, 77, 900, SOFT)
    own = ("medclip-vit", "builtin:phantom-encoder")
    made: dict[str, Callable[[], Rows]] = {
        "phantom-500": lambda: first(embedded(usual(), *own), 500),
        "phantom-5000": lambda: embedded(usual(), *own),
        "patches-5000": lambda: patches(some(usual(), slice(102))),
        "planted-300": lambda: planted(300, 256, 64, 6, seed=1),
        "planted-6000": lambda: planted(6000, 64, 128, 5, seed=2, tail=0.5),
        "soft-1300": lambda: embedded(soft(), *own),
        "soft-40": lambda: first(embedded(soft(), *own), 40),
        "soft-patches-2000": lambda: patches(some(soft(), slice(-41, None))),
        "planted-20000": lambda: planted(20_000, 512, 1024, 8, seed=3, tail=0.7),
    }
    if encoders:
        network = {name: str(encoders / f"{name}.onnx") for name in ONNX}
        made["usual-mobilenet"] = lambda: embedded(
            phantoms(909, 400, USUAL), "onnx", network["mobilenetv2_035"], **ONNX["mobilenetv2_035"]
        )
        made["soft-mobilenet"] = lambda: embedded(soft(), "onnx", network["mobilenetv2_035"], **ONNX["mobilenetv2_035"])
        if nih:
            for name, options in ONNX.items():
                made[f"nih-{name.split('_')[0]}"] = partial(embedded_radiographs, nih, network[name], options)
    return made


CHOSEN = ("phantom-500", "phantom-5000", "nih-mobilenetv2", "patches-5000", "planted-300", "planted-6000")
REPORTED = (
    "soft-40",
    "nih-squeezenet11",
    "soft-1300",
    "soft-mobilenet",
    "usual-mobilenet",
    "soft-patches-2000",
    "planted-20000",
)


def load(folder: Path, name: str) -> Rows:
    """Read the table `name` from the cache."""
    with np.load(folder / f"{name}.npz") as stored:
        return Rows(*(stored[field] for field in Rows._fields))


def main() -> None:
    """Make the tables that the cache does not have yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, needed in (("cache", True), ("nih", False), ("encoders", False)):
        parser.add_argument(f"--{name}", type=Path, required=needed)
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.cache.mkdir(parents=True, exist_ok=True)
    for name, make in tables(given.nih, given.encoders).items():
        path = given.cache / f"{name}.npz"
        if not path.exists():
            np.savez(path, **make()._asdict())
        print(name, load(given.cache, name).x_ND.shape, flush=True)


if __name__ == "__main__":
    main()
