"""Every packaged recipe, with its own paths, on a small copy of its dataset: from disk to manifest to embeddings."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

import medsae_ray
from medsae_ray.config import load_recipe
from medsae_ray.pipeline import run_stage
from tests.core.datasets import layouts
from tests.core.encoders.every import MAKERS
from tests.support.medical import dicom_folder, segmentator_folder
from tests.support.papers import sail_scans

PACKAGED = Path(medsae_ray.__file__).parent / "recipes"
SMALL = {
    "onnx": {"size": 16, "mean": 0.5, "std": 0.5},
    "dinov3": {"size": 64},
    "biomedparse": {"size": 96},
    "medclip-resnet": {"kind": "medclip-vit"},  # a whole ResNet-50 is slow on a CPU
}
ENCODER = {
    "medclip-vit": "phantom",
    "medclip-resnet": "phantom",
    "dinov3": "dinov3-vit",
    "biomedparse": "biomedparse",
    "onnx": "onnx",
}


def archive(folder: Path) -> None:
    """DICOM files in `archive`, and a table beside it with labels of which some are uncertain and some blank."""
    rng, own = np.random.default_rng(0), dicom_folder(folder / "archive") / "labels.csv"
    with own.open() as stream:
        images = [line["SOPInstanceUID"] for line in csv.DictReader(stream)]
    own.unlink()
    names = ["Cardiomegaly", "Edema", "Pleural Effusion", "Pneumothorax"]
    rows = [[image, *rng.choice(["1", "0", "-1", ""], 4)] for image in images]
    (folder / "labels.csv").write_text(layouts.csv_text(["SOPInstanceUID", *names], rows))


def scans(folder: Path) -> None:
    segmentator_folder(folder / "Totalsegmentator_dataset_v201")


def two_scanners(folder: Path) -> None:
    sail_scans(folder / "Totalsegmentator_dataset_v201", "ct", 8)
    sail_scans(folder / "TotalsegmentatorMRI_dataset_v200", "mr", 8)


CHEXPERT = ("medsae-paper", "chexpert-medclip", "chexpert-medclip-medgemma", "chexpert-medclip-medgemma-27b")
LAID_OUT: dict[str, Callable[[Path], object]] = {
    **dict.fromkeys(CHEXPERT, lambda folder: layouts.chexpert(folder, 72)),
    "mimic-cxr-medclip": lambda folder: layouts.mimic(folder, 96),
    "nih-cxr14-medclip": lambda folder: layouts.nih(folder, 96),
    "vindr-cxr-medclip": layouts.vindr,
    "dicom-medclip": archive,
    "totalsegmentator-dinov3": scans,
    "totalsegmentator-biomedparse": scans,
    "sail-paper": two_scanners,
    "table-onnx": lambda folder: layouts.table(folder, layouts.NIH[:-1]),
    "sail-sweep": lambda folder: layouts.table(folder, ["finding"]),
    "phantom": lambda folder: None,
    "phantom-hospitals": lambda folder: None,
    "phantom-patches": lambda folder: None,
}
BLANKS = {**dict.fromkeys((*CHEXPERT, "mimic-cxr-medclip", "dicom-medclip"), "Edema"), "table-onnx": "Mass"}


DRAWN = ("phantom-volumes", "phantom-volumes-sail")
"""The recipes whose scans take too long to draw once more; tests/stages/test_volumes.py draws a few."""


def test_every_packaged_recipe_has_a_dataset_here() -> None:
    assert {*LAID_OUT, *DRAWN} == {path.stem for path in PACKAGED.glob("*.yaml")}


def small(name: str, folder: Path, **dataset: Any) -> Path:
    """The recipe in `folder`, where its paths lead to the small dataset, with a small encoder on this machine."""
    data = yaml.safe_load((PACKAGED / f"{name}.yaml").read_text())
    what, kind = data["what"], data["what"]["encoder"]["kind"]
    what["encoder"] |= SMALL.get(kind, {})
    what["shard_rows"] = 16
    for source in what.get("datasets", [what.get("dataset")]):
        source |= dataset | ({"patients": 40} if source["kind"] == "phantom" else {})
    for key in ("naming", "sweep"):
        what.pop(key, None)
    weights = MAKERS[ENCODER[kind]](folder).weights
    data["how"] = {"engine": "loop", "paths": data["how"].get("paths", {}) | {"weights": weights}}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(data))
    return folder / "recipe.yaml"


def checked(file: Path, root: Path) -> pa.Table:
    """The manifest of a run up to the embeddings, of which every image is usable and no patient in two splits."""
    recipe = load_recipe(file)
    embeddings, manifest = (run_stage(recipe, str(root), name) for name in ("embeddings", "manifest"))
    table = manifest.table()
    assert embeddings.record.rows == table.num_rows >= 40 and embeddings.record.not_ok == {}
    assert embeddings.table(["image_id"]) == table.select(["image_id"])
    x = embeddings.table()["x"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    assert np.isfinite(x).all() and len(np.unique(x.round(4), axis=0)) > 0.9 * table.num_rows
    pairs = set(zip(table["patient_id"].to_pylist(), table["split"].to_pylist(), strict=True))
    assert len(pairs) == len({patient for patient, _ in pairs}) and len({split for _, split in pairs}) >= 2
    return table


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_packaged_recipe_goes_from_disk_to_embeddings(name: str, tmp_path: Path) -> None:
    LAID_OUT[name](tmp_path)
    table = checked(small(name, tmp_path), tmp_path / "root")
    if name in BLANKS:
        assert set(table[f"y_{BLANKS[name]}"].to_pylist()) == {1, 0, -1, None}


def test_mimics_and_chexperts_second_visits_are_in_the_split_of_the_first(tmp_path: Path) -> None:
    for name in ("chexpert-medclip", "mimic-cxr-medclip"):
        (tmp_path / name).mkdir()
        LAID_OUT[name](tmp_path / name)
        table = checked(small(name, tmp_path / name, views="all"), tmp_path / name / "root")
        seen: dict[str, list[set[str]]] = {}
        for row in table.to_pylist():
            splits, visits = seen.setdefault(row["patient_id"], [set(), set()])
            splits.add(row["split"])
            visits.add(row["study_id"])
        assert len(seen) == 24 and all((len(splits), len(visits)) == (1, 2) for splits, visits in seen.values())
        assert set(table["split"].to_pylist()) == {"sae", "naming", "detection"}


def test_vindrs_own_dicom_files_are_read_as_they_come(tmp_path: Path) -> None:
    """Half of them MONOCHROME1."""
    layouts.vindr(tmp_path, suffix=".dicom")
    table = checked(small("vindr-cxr-medclip", tmp_path, suffix=".dicom"), tmp_path / "root")
    assert table.num_rows == 48 and all(uri.endswith(".dicom") for uri in table["uri"].to_pylist())
