"""`medsae init`: what it makes of folders and tables, and that a recipe of it loads, plans and runs."""

import csv
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from medsae_ray.cli import main
from medsae_ray.config import Recipe, load_recipe
from medsae_ray.config.yaml_file import GUESSED
from medsae_ray.core.images.dicom import parse
from tests.core.datasets import layouts
from tests.support.medical import dicom, dicom_folder, segmentator_folder
from tests.support.small import onnx_encoder, table_dataset


def draft(place: Path, name: str = "recipe.yaml") -> tuple[Recipe, list[str]]:
    """The recipe that is written for a place, and its lines."""
    file = place.parent / name
    assert main(["init", str(place), "-o", str(file)]) == 0
    return load_recipe(file), file.read_text().splitlines()


def marked(lines: list[str], key: str) -> bool:
    """Whether the line of a key says that it is a guess."""
    (line,) = [line for line in lines if line.strip().startswith(f"{key}:")]
    return GUESSED in line


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "data"


LAYOUTS: list[tuple[str, Callable[[Path], Any], int]] = [
    ("chexpert", layouts.chexpert, 32),
    ("mimic-cxr-jpg", layouts.mimic, 24),
    ("nih-cxr14", layouts.nih, 48),
    ("vindr-cxr", layouts.vindr, 48),
]


@pytest.mark.parametrize(("kind", "make", "images"), LAYOUTS)
@pytest.mark.parametrize("by", ["folder", "file"])
def test_public_datasets_are_known_by_their_files(
    place: Path, kind: str, make: Callable[[Path], Any], images: int, by: str
) -> None:
    place.mkdir()
    table = make(place)
    recipe, _ = draft(place if by == "folder" else table, str(place.parent / "x.yaml"))
    (source,) = recipe.what.sources
    assert source.kind == kind
    rows = source.rows(recipe.paths_of(source))
    start = Path(recipe.how.paths.images or Path(str(recipe.how.paths.table)).parent)
    assert len(rows.uri) == images and all((start / uri).is_file() for uri in rows.uri)


def test_vindrs_images_have_the_ending_that_its_files_have(place: Path) -> None:
    place.mkdir()
    layouts.vindr(place)
    recipe, lines = draft(place)
    assert recipe.what.dataset and recipe.what.dataset.suffix == ".png"  # type: ignore[union-attr]
    assert marked(lines, "suffix") and not any(line.strip().startswith("patient") for line in lines)


def test_totalsegmentator_is_known_by_its_volumes(place: Path) -> None:
    recipe, _ = draft(segmentator_folder(place))
    assert recipe.what.sources[0].kind == "totalsegmentator" and recipe.how.paths.images == str(place)


def test_the_tables_of_mimic_belong_together(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.mkdir()
    layouts.mimic(place)
    (place / "mimic-cxr-2.0.0-metadata.csv.gz").unlink()
    assert main(["init", str(place), "-o", str(place / "x.yaml")]) == 1
    assert "no mimic-cxr-2.0.0-metadata.csv.gz" in capsys.readouterr().err and not (place / "x.yaml").exists()


def test_a_folder_of_images_gets_a_table_and_no_patients(place: Path) -> None:
    table_dataset(place, 20).unlink()
    (place / "inner").mkdir()
    shutil.move(place / "i0000.png", place / "inner")
    (place / "notes.txt").write_text("not an image")
    recipe, lines = draft(place)
    source = recipe.what.dataset
    assert source and source.kind == "table" and source.patient is None and source.labels == []
    assert marked(lines, "patient") and any("counts as a patient of its own" in line for line in lines)
    assert any("1 file with another ending" in line for line in lines) and recipe.how.paths.images == str(place)
    rows = list(csv.DictReader((place.parent / "recipe-images.csv").open()))
    assert len(rows) == 20 and {"path": "inner/i0000.png", "folder": "inner"} in rows


def test_a_folder_of_dicom_files_is_joined_with_its_table(place: Path) -> None:
    recipe, lines = draft(dicom_folder(place))
    source = recipe.what.dataset
    assert source and source.kind == "dicom" and source.labels == ["bright", "left"] and source.join == "SOPInstanceUID"
    assert marked(lines, "join") and marked(lines, "labels")
    assert set(source.rows(recipe.how.paths).labels) == {"bright", "left"}


def test_labels_of_dicom_files_may_be_given_by_path_or_not_at_all(place: Path) -> None:
    dicom_folder(place, patients=3)
    names = sorted(str(file.relative_to(place)) for file in place.rglob("*.dcm"))
    (place / "labels.csv").write_text("file,sick\n" + "".join(f"{name},{i % 2}\n" for i, name in enumerate(names)))
    recipe, _ = draft(place)
    source = recipe.what.dataset
    assert source and source.kind == "dicom" and (source.join, source.join_by) == ("file", "path")
    (place / "labels.csv").write_text("case,sick\n1,0\n2,1\n")
    recipe, lines = draft(place, "other.yaml")
    assert recipe.how.paths.table is None and any(
        "no column of labels.csv names these images" in line for line in lines
    )


def test_names_with_line_breaks_add_no_lines_to_the_recipe(tmp_path: Path) -> None:
    folder = tmp_path / "a\nname: another"
    table_dataset(folder, 12)
    file = tmp_path / "recipe.yaml"
    assert main(["init", str(folder), "-o", str(file)]) == 0
    assert load_recipe(file).how.paths.table == str(folder / "labels.csv") and load_recipe(file).name == "labels"


def test_zip_files_are_taken_for_dicom_and_marked(place: Path) -> None:
    place.mkdir()
    with zipfile.ZipFile(place / "export.zip", "w") as archive:
        archive.writestr("1.dcm", dicom(np.zeros((8, 8), np.uint16)))
    recipe, lines = draft(place)
    assert recipe.what.sources[0].kind == "dicom" and marked(lines, "kind")
    assert len(recipe.what.sources[0].rows(recipe.how.paths).uri) == 1


def test_images_are_told_without_a_dicom_library(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table_dataset(place, 6).unlink()
    (place / "notes.txt").write_text("not an image")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    parse._library.cache_clear()
    recipe, _ = draft(place)
    assert recipe.what.sources[0].kind == "table"
    parse._library.cache_clear()


def test_headers_without_a_patient_are_counted(place: Path) -> None:
    place.mkdir()
    for number in range(3):
        pixels = np.full((8, 8), number, np.uint16)
        (place / f"{number}").write_bytes(dicom(pixels, patient="" if number else "P1", number=number + 1))
    assert any("2 of 3 sampled headers name no patient" in line for line in draft(place)[1])


@pytest.mark.parametrize("end", ["csv", "parquet"])
def test_the_columns_of_a_table_are_told_and_marked(place: Path, end: str) -> None:
    place.mkdir()
    table = layouts.table(place, ["Edema", "No Finding"])
    if end == "parquet":
        rows = list(csv.DictReader(table.open()))
        pq.write_table(pa.Table.from_pylist(rows), place / "labels.parquet")
        table.unlink()
    recipe, lines = draft(place)
    source = recipe.what.dataset
    assert source and source.kind == "table" and (source.image, source.patient) == ("path", "patient_id")
    assert source.labels == ["Edema", "No Finding"] and source.metadata == ["view", "sex", "age"]
    assert all(marked(lines, key) for key in ("image", "patient", "labels", "metadata"))
    assert "24 patients in 48 rows" in next(line for line in lines if "patient:" in line)


def test_images_are_found_in_a_folder_beside_the_table(place: Path) -> None:
    table_dataset(place / "pictures", 12)
    shutil.move(place / "pictures" / "labels.csv", place)
    recipe, lines = draft(place / "labels.csv", str(place / "x.yaml"))
    assert recipe.how.paths.images == str(place / "pictures") and any("12 of 12 sampled rows" in line for line in lines)


def test_a_table_without_patients_says_what_that_means(place: Path) -> None:
    table = table_dataset(place, 12)
    table.write_text(table.read_text().replace("patient", "number of the visit", 1))
    recipe, lines = draft(place)
    source = recipe.what.dataset
    assert source and source.kind == "table" and source.patient is None and marked(lines, "patient")
    assert any("intervals are too narrow" in line for line in lines)
    assert any("# not used: 'number of the visit'" in line for line in lines)


def test_a_column_of_patients_with_blanks_is_not_taken(place: Path) -> None:
    table = table_dataset(place, 12)
    table.write_text(table.read_text().replace(",p1,", ",,"))
    source = draft(place)[0].what.dataset
    assert source and source.kind == "table" and source.patient is None


def test_odd_names_and_values_survive(place: Path) -> None:
    table = table_dataset(place, 12)
    odd = {"path": "Bild: 'Pfad' #1", "bright": "yes", "left": "Größe > 3"}
    text = table.read_text()
    for old, new in odd.items():
        text = text.replace(old, new, 1)
    table.write_text(text)
    source = draft(place)[0].what.dataset
    assert source and source.kind == "table" and source.image == odd["path"]
    assert source.labels == [odd["bright"], odd["left"]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda place: None, "holds no table, and of 0 files"),
        (lambda place: (place / "a.csv").write_text("x,y\n1,2\n"), "none of its 2 columns names image files"),
        (lambda place: (place / "a.csv").write_text("i0.png,1\ni1.png,0\n"), "it is not a header"),
        (lambda place: [(place / f"{n}.csv").write_text("x\n1\n") for n in "ab"], r"2 tables \(a.csv, b.csv\)"),
    ],
)
def test_what_is_no_dataset_is_refused_and_nothing_is_written(
    place: Path, make: Callable[[Path], Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place.mkdir()
    make(place)
    assert main(["init", str(place), "-o", str(place / "x.yaml")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("medsae: ") and re.search(message, error) and not (place / "x.yaml").exists()


def test_a_place_that_is_not_there_and_a_file_that_is(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(place)]) == 1
    assert "is neither a folder nor a file" in capsys.readouterr().err
    table_dataset(place, 12)
    (place / "x.yaml").write_text("mine")
    assert main(["init", str(place), "-o", str(place / "x.yaml")]) == 1
    assert "x.yaml exists already" in capsys.readouterr().err and (place / "x.yaml").read_text() == "mine"


def test_the_encoder_is_an_example_that_says_so_and_never_the_toy(place: Path) -> None:
    table_dataset(place, 12)
    recipe, lines = draft(place)
    assert recipe.what.encoder.kind == "huggingface" and recipe.how.paths.weights == "microsoft/rad-dino"
    assert "chosen as an example" in next(line for line in lines if "weights: microsoft" in line)
    assert all(any(f"{kind}" in line for line in lines) for kind in ("onnx:", "dinov3:", "biomedparse:", "medclip-vit"))
    assert not any("builtin" in line for line in lines)


def test_a_draft_plans_and_runs_and_says_that_guesses_are_left(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table_dataset(place, 60)
    weights, file = onnx_encoder(place.parent / "e.onnx"), place.parent / "recipe.yaml"
    _, lines = draft(place)
    given = [
        "what.encoder={kind: onnx, size: 16}",
        f"how.paths.weights={weights}",
        "how.engine=loop",
        "what.shard_rows=8",
    ]
    sets = [part for change in given for part in ("--set", change)]
    root = ["--root", str(place.parent / "root")]
    assert main(["plan", str(file), *root, *sets, "--json"]) == 0
    printed = capsys.readouterr()
    assert f"recipe.yaml has values that are marked '{GUESSED}' (4)" in printed.err
    assert json.loads(printed.out[printed.out.index("{") :])["problems"] == []
    confirmed = "\n".join(line.partition(f"    {GUESSED}")[0] for line in lines)
    assert yaml.safe_load(confirmed) == yaml.safe_load(file.read_text())
    file.write_text(confirmed)
    assert main(["stage", "features", str(file), *root, *sets]) == 0
    assert "marked" not in capsys.readouterr().err
