"""Images that are not there stop a run at the first shard, and the reasons of others are counted."""

import io
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.errors import DatasetError, RecipeError
from medsae_ray.pipeline import run_stage
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 60), onnx_encoder(folder / "e.onnx")


@pytest.fixture
def data(source: tuple[Path, Path], tmp_path: Path) -> dict[str, Any]:
    """A recipe whose images may be spoilt."""
    shutil.copytree(source[0].parent, tmp_path / "d")
    return recipe_data(tmp_path / "d" / "labels.csv", source[1], engine="loop")


def embedded(data: dict[str, Any], root: Path) -> str:
    """What is printed."""
    said = io.StringIO()
    run_stage(parse_recipe(data), str(root), "embeddings", Console(file=said, width=200))
    return said.getvalue()


def parts(root: Path) -> int:
    return len(list(root.glob("embeddings-*/part-*")))


def test_a_wrong_folder_is_said_at_once_and_the_right_one_mends_it(data: dict[str, Any], tmp_path: Path) -> None:
    data["how"]["paths"]["images"] = str(tmp_path / "wrong")
    with pytest.raises(RecipeError, match=r"^how.paths.images is .*/wrong: this machine does not have it$"):
        embedded(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "wrong").mkdir()
    with pytest.raises(
        DatasetError, match=r"32 of the first 32 images \(of 60\) are missing.*wrong; that folder is missing"
    ):
        embedded(data, tmp_path / "run")
    assert parts(tmp_path / "run") == 4 and not list((tmp_path / "run").glob("embeddings-*/record.json"))
    data["how"]["paths"]["images"] = str(tmp_path / "d")
    assert "not ok" not in embedded(data, tmp_path / "run").partition("stage")[0]


@pytest.mark.parametrize(
    ("change", "advice"),
    [
        (lambda path: f"imgs\\{path}", "paths with backslashes, first in data row 1"),
        (lambda path: f"imgs/{path}", "files of these names lie directly in it"),
        (lambda path: f"/nowhere/{path}", "60 of the paths start with /"),
        (lambda path: f"C:/images/{path}", "start with the letter of a drive"),
        (lambda path: path.replace(".png", ".jpg"), "but with another ending"),
        (lambda path: path.removesuffix(".png"), "but with another ending"),
        (lambda path: f"other-{path}", "no file of such a name was found there"),
    ],
)
def test_what_is_wrong_with_the_paths_is_said(data: dict[str, Any], tmp_path: Path, change: Any, advice: str) -> None:
    table = tmp_path / "d" / "labels.csv"
    head, *rows = table.read_text().splitlines()
    cells = [row.split(",", 1) for row in rows]
    table.write_text("\n".join([head, *(f"{change(path)},{rest}" for path, rest in cells)]))
    with pytest.raises(DatasetError) as caught:
        embedded(data, tmp_path / "run")
    assert advice in str(caught.value) and "i0000" not in str(caught.value)


def test_paths_from_below_a_folder_are_found(data: dict[str, Any], tmp_path: Path) -> None:
    data["how"]["paths"]["images"] = str(tmp_path)
    with pytest.raises(DatasetError, match="below one of its folders the paths lead to files"):
        embedded(data, tmp_path / "run")


def test_images_that_are_none_stop_a_run_too(data: dict[str, Any], tmp_path: Path) -> None:
    for file in (tmp_path / "d").glob("*.png"):
        file.write_bytes(b"<html>please log in</html>")
    with pytest.raises(DatasetError, match=r"none of its first 32 images can be used.*32 not_an_image"):
        embedded(data, tmp_path / "run")


def test_one_of_two_datasets_that_is_not_there_is_named(data: dict[str, Any], tmp_path: Path) -> None:
    """The shard in the middle holds images of both."""
    base = data["what"].pop("dataset")
    data["what"] |= {"datasets": [base | {"name": "zeta"}, base | {"name": "alpha"}], "shard_rows": 40}
    table = str(tmp_path / "d" / "labels.csv")
    files = {"zeta": {"table": table}, "alpha": {"table": table, "images": str(tmp_path / "wrong")}}
    (tmp_path / "wrong").mkdir()
    data["how"]["paths"] = {"weights": data["how"]["paths"]["weights"], "datasets": files}
    with pytest.raises(DatasetError, match=r"^alpha: \d+ of the first \d+ images .*how.paths.datasets.alpha.images is"):
        embedded(data, tmp_path / "run")


def test_what_is_not_ok_stands_beside_the_tick_and_a_tenth_is_a_warning(data: dict[str, Any], tmp_path: Path) -> None:
    files = sorted((tmp_path / "d").glob("*.png"))
    files[3].unlink()
    files[9].unlink()
    files[20].write_bytes(b"")
    said = embedded(data, tmp_path / "few")
    assert "s, 3 of 60 images not ok: 2 missing, 1 " in said and "after mending them" not in said
    for file in files[40:45]:
        file.unlink()
    shutil.rmtree(tmp_path / "few")
    said = embedded(data, tmp_path / "more")
    assert "8 of 60 images not ok: 7 missing" in said and "after mending them delete embeddings-" in said
    assert "(already there), 8 of 60 images not ok" in embedded(data, tmp_path / "more")
