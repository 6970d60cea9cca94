"""What a run warns of before anything is learned: patients, images and labels that its figures rest on."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from tests.support.small import onnx_encoder, recipe_data, table_dataset

Row = dict[str, Any]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 240), onnx_encoder(folder / "e.onnx")


def changed(table: Path, name: str, change: Callable[[int, Row], Row]) -> Path:
    rows = [change(number, row) for number, row in enumerate(csv.DictReader(table.open()))]
    with (table.parent / f"{name}.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table.parent / f"{name}.csv"


def warned(recipe: Row, root: Path, stage: str = "manifest") -> dict[str, RunWarning]:
    """Code -> warning of a stage and those before it."""
    with Run(parse_recipe(recipe), Store(str(root)), STAGES, Console(quiet=True)) as run:
        run.artifact(stage)
        return {warning.code: warning for warning in run.warnings}


def test_plenty_of_everything_is_no_doubt(data: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = recipe_data(*data, engine="loop")
    recipe["what"]["split"] = {"sae": 0.3, "naming": 0.1, "detection": 0.6}
    assert warned(recipe, tmp_path, "embeddings") == {}


def test_one_patient_with_much_of_the_data(data: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = recipe_data(*data)
    for patient in ("p1", "p2"):  # one of them is in discovery for sure, or the test below has nothing to say
        recipe["how"]["paths"]["table"] = str(
            changed(data[0], f"most-{patient}", lambda i, row, p=patient: row | ({"patient": p} if i < 60 else {}))
        )
        found = warned(recipe, tmp_path / patient)
        if "one_patient" in found:
            break
    warning = found["one_patient"]
    assert "one patient has 60 of the" in warning.message and "the median patient has 2" in warning.message
    assert isinstance(warning.value, float) and 0.2 < warning.value < 0.5 and patient not in warning.message
    recipe["what"]["features"]["weights"] = "patients"
    assert "one_patient" not in warned(recipe, tmp_path / patient)


def test_images_of_unknown_patients(data: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = recipe_data(*data)
    del recipe["what"]["dataset"]["patient"]
    assert "patients_unknown" in warned(recipe, tmp_path)


def test_labels_with_few_test_patients_are_listed_with_their_counts(data: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = recipe_data(changed(data[0], "few", lambda i, row: row | {"left": "0"}), data[1])
    warning = warned(recipe, tmp_path)["few_in_test"]
    assert "left 0 with, " in warning.message and " without" in warning.message and "20 of" in warning.message


def test_labels_that_are_never_absent_and_what_blank_zero_makes_of_them(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    table = changed(data[0], "never", lambda i, row: row | {"left": "1" if row["left"] == "1" else ""})
    recipe = recipe_data(table, data[1])
    warning = warned(recipe, tmp_path)["unmentioned_never_absent"]
    assert warning.message.startswith("left: present or not mentioned") and warning.value == 1
    recipe["what"]["dataset"]["blank"] = "zero"
    assert "unmentioned_never_absent" not in warned(recipe, tmp_path)


def test_fewer_training_images_than_dimensions(data: tuple[Path, Path], tmp_path: Path) -> None:
    table = data[0].parent / "small.csv"
    table.write_text("".join(data[0].read_text().splitlines(keepends=True)[:13]))
    warning = warned(recipe_data(table, data[1], engine="loop"), tmp_path, "embeddings")["small_training"]
    assert f"{warning.value} training images for 12 dimensions" in warning.message


@pytest.mark.parametrize(("support", "said"), [(10, False), (30, True)])
def test_too_few_patients_to_test_a_name(data: tuple[Path, Path], tmp_path: Path, support: int, said: bool) -> None:
    recipe = recipe_data(*data, vlm={"model": "builtin:phantom-vlm"})
    recipe["what"]["split"] = {"sae": 0.5, "naming": 0.2, "detection": 0.3}
    recipe["what"]["naming"] = {"detection": {"support": support}}
    found = warned(recipe, tmp_path)
    assert ("naming_support" in found) == said
    assert not said or "no name can be tested: it takes 60 patients" in found["naming_support"].message
