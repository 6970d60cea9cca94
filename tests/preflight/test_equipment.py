"""What a node is asked for, and what it says."""

import os
from pathlib import Path

import pytest
from rich.console import Console

from medsae_ray.config import Recipe, load_recipe, parse_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import STAGES, run_stage
from medsae_ray.preflight.equipment import BUILD, FILE, FOLDER, MODEL, MODULE, look, things_of
from medsae_ray.runtime.run import Run
from tests.support.small import recipe_data, table_dataset


def asked(recipe: Recipe, root: Path, *to_make: str) -> set[tuple[str, str, str]]:
    with Run(recipe, Store(str(root)), STAGES, Console(quiet=True)) as run:
        return {(thing.kind, thing.name, thing.said) for thing in things_of(run, [*to_make])}


def test_a_recipe_asks_for_its_reader_its_encoder_and_its_folders(tmp_path: Path) -> None:
    data = recipe_data(tmp_path / "labels.csv", tmp_path / "e.onnx", train={"scratch": "/scratch"})
    data["how"]["cache"] = {"folder": "/cache", "gb": 1.0}
    found = asked(parse_recipe(data), tmp_path, "manifest", "embeddings", "sae")
    assert found == {
        (MODULE, "onnxruntime", "encoder onnx"),
        (FILE, str(tmp_path / "e.onnx"), "how.paths.weights"),
        (FILE, str(tmp_path), "how.paths.images"),
        (FOLDER, "/cache", "how.cache.folder"),
        (FOLDER, "/scratch", "how.train.scratch"),
    }
    assert asked(parse_recipe(data), tmp_path, "atlas", "features") == set()


@pytest.mark.parametrize(
    ("name", "package"),
    [("dicom-medclip", "pydicom"), ("totalsegmentator-dinov3", "nibabel"), ("vindr-cxr-medclip", "pydicom")],
)
def test_medical_files_ask_for_their_reader(tmp_path: Path, name: str, package: str) -> None:
    recipe = load_recipe(name)
    found = asked(recipe, tmp_path, *(stage for stage in STAGES if stage not in ("images", "sweep")))
    assert package in {what for kind, what, _ in found if kind == MODULE}


def test_an_engine_asks_for_vllm_and_its_model(tmp_path: Path) -> None:
    recipe = load_recipe("phantom")
    assert asked(recipe, tmp_path, "names") == {(MODULE, "vllm", "how.vlm"), (BUILD, "0", "how.vlm.gpus")}
    assert recipe.how.vlm
    vlm = recipe.how.vlm.model_copy(update={"model": "google/medgemma-4b-it", "revision": "main"})
    other = recipe.model_copy(update={"how": recipe.how.model_copy(update={"vlm": vlm})})
    assert (MODEL, "google/medgemma-4b-it@main", "how.vlm.model") in asked(other, tmp_path, "answers")


def test_a_node_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").write_text("x")
    there = [
        (MODULE, "json"),
        (FILE, str(tmp_path / "there")),
        (FILE, str(tmp_path)),
        (FOLDER, str(tmp_path / "new/er")),
    ]
    assert look(there) == ["", "", "", ""]
    module, file, folder = look(
        [(MODULE, "no_such_package"), (FILE, str(tmp_path / "gone")), (FOLDER, str(tmp_path / "there" / "x"))]
    )
    assert (
        "medsae-ray[gpu]" in module and file.startswith("does not have it") and folder.startswith("cannot write there")
    )


def test_a_driver_refuses_what_it_lacks_before_the_first_stage_whatever_computes(tmp_path: Path) -> None:
    for engine in ("loop", "ray"):
        data = recipe_data(table_dataset(tmp_path / "data", 12), tmp_path / "gone.onnx", engine=engine)
        data["how"]["paths"]["images"] = str(tmp_path / "empty")
        with pytest.raises(RecipeError, match="2 problems:") as refused:
            run_stage(parse_recipe(data), str(tmp_path / "root"), "embeddings")
        assert f"how.paths.weights is {tmp_path}/gone.onnx: this machine does not have it" in str(refused.value)
        assert f"how.paths.images is {tmp_path}/empty: this machine does not have it" in str(refused.value)
        assert not (tmp_path / "root").exists()


def test_published_weights_are_asked_for_like_given_ones(tmp_path: Path) -> None:
    data = recipe_data(tmp_path / "labels.csv", tmp_path / "e.onnx")
    data["what"]["encoder"] = {"kind": "dinov3"}
    del data["how"]["paths"]["weights"]
    models = {(name, said) for kind, name, said in asked(parse_recipe(data), tmp_path, "embeddings") if kind == MODEL}
    assert models == {("facebook/dinov3-vitl16-pretrain-lvd1689m", "encoder dinov3")}


def test_a_model_that_a_node_may_not_read_is_told_in_the_hubs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (said,) = look([(MODEL, "nobody/no-such-model")])
    assert said.startswith("cannot read it: ") and os.linesep not in said
