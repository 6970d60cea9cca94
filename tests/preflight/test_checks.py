"""What the manifest knows is said before anything is embedded, all of it at once."""

from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.errors import DatasetError, MedsaeError, RecipeError
from medsae_ray.pipeline import run_recipe, run_stage
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 60), onnx_encoder(folder / "e.onnx")


def refused(data: dict[str, Any], root: Path, stage: str | None = None) -> MedsaeError:
    """The error of a run, which has made nothing but the manifest by then."""
    recipe = parse_recipe(data)
    with pytest.raises(MedsaeError) as caught:
        _ = run_stage(recipe, str(root), stage) if stage else run_recipe(recipe, str(root))
    assert {folder.name.partition("-")[0] for folder in root.glob("*-*")} == {"manifest"}
    return caught.value


@pytest.mark.parametrize("stage", [None, "sae", "atlas"])
def test_a_batch_above_the_training_images(data: tuple[Path, Path], tmp_path: Path, stage: str | None) -> None:
    wanted = recipe_data(*data)  # for Ray, which is never started
    wanted["what"]["sae"]["batch_size"] = 4096
    error = refused(wanted, tmp_path, stage)
    assert isinstance(error, RecipeError) and str(error).startswith(
        "batch_size = 4096 is above the 36 training images;"
    )


def test_every_member_of_a_sweep(data: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = recipe_data(*data)
    wanted["what"]["sweep"] = {"grid": {"batch_size": [16, 512, 1024]}}
    error = str(refused(wanted, tmp_path, "sweep"))
    assert "2 problems:" in error and "'batch_size': 512}" in error and "'batch_size': 1024}" in error


def test_a_batch_and_workers_that_do_not_go_together(data: tuple[Path, Path], tmp_path: Path) -> None:
    error = str(refused(recipe_data(*data, engine="loop", train={"workers": 13}), tmp_path))
    assert "batch_size = 16 cannot be split over 13 workers; take 13" in error
    assert "how.train.workers = 13 is above the 12 images of split naming" in error


@pytest.mark.parametrize("patients", [1, 2])
def test_fewer_than_three_patients(data: tuple[Path, Path], tmp_path: Path, patients: int) -> None:
    table = data[0].parent / f"{patients}.csv"
    table.write_text("".join(data[0].read_text().splitlines(keepends=True)[: 1 + 2 * patients]))
    wanted = recipe_data(table, data[1])
    wanted["what"]["sae"]["batch_size"] = 4096
    error = refused(wanted, tmp_path)
    assert isinstance(error, DatasetError)
    assert f"there are {patients} patients with {2 * patients} images" in str(error)
    assert "it takes three patients at least. Without what.dataset.patient each image counts" in str(error)
    assert "batch_size = 4096 is above" in str(error) or patients == 1


def test_held_out_values_that_leave_nobody(data: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = recipe_data(*data)
    wanted["what"]["split"] = {"held_out_by": "view", "held_out": ["PA"]}
    assert "what.split.held_out leaves 0 of 30 patients" in str(refused(wanted, tmp_path))


def test_stages_that_train_nothing_are_not_asked_for_a_batch(data: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = recipe_data(*data, engine="loop")
    wanted["what"]["sae"]["batch_size"] = 4096
    assert run_stage(parse_recipe(wanted), str(tmp_path), "embeddings").record.rows == 60
