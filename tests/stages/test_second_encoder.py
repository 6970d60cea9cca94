"""Another encoder as the judge of how alike a feature's images are."""

import json
from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import load_recipe, parse_recipe
from medsae_ray.core.artifacts.monosemanticity import MonosemanticityMetrics
from medsae_ray.core.report.monosemanticity import section
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_stage
from tests.support.small import SIZE, onnx_encoder, recipe_data, table_dataset
from tests.support.typed import fits


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    table_dataset(folder, 120)
    onnx_encoder(folder / "own.onnx")
    onnx_encoder(folder / "other.onnx", seed=1)
    return folder


def recipe(folder: Path, judge: str | None) -> dict[str, Any]:
    found = recipe_data(folder / "labels.csv", folder / "own.onnx", engine="loop")
    found["what"]["sae"] |= {"epochs": 4}
    if judge:
        found["what"]["monosemanticity"] = {"encoder": {"kind": "onnx", "size": SIZE}}
        found["how"]["paths"]["second_weights"] = str(folder / judge)
    return found


def made(folder: Path, judge: str | None) -> tuple[list[dict[str, Any]], Any]:
    artifact = run_stage(parse_recipe(recipe(folder, judge)), str(folder / "root"), "monosemanticity")
    fits(artifact.record.metrics, MonosemanticityMetrics)
    return artifact.table().to_pylist(), artifact.record.metrics


def test_another_encoder_changes_the_similarity_and_nothing_else(folder: Path) -> None:
    own, same, other = (made(folder, judge) for judge in (None, "own.onnx", "other.onnx"))
    assert own[0] == same[0] and "similarity_by" not in own[1]
    for row, judged in zip(own[0], other[0], strict=True):
        assert {key for key in row if row[key] != judged[key]} <= {key for key in row if key.startswith("similarity")}
    assert own[1]["similarity_null"] != other[1]["similarity_null"]
    assert section(other[1]).similarity_by == "onnx"


def test_its_weights_are_asked_for_and_relative_to_the_recipe(folder: Path) -> None:
    lacking = recipe(folder, "other.onnx")
    del lacking["how"]["paths"]["second_weights"]
    with pytest.raises(RecipeError, match=r"what\.monosemanticity\.encoder needs how\.paths\.second_weights"):
        parse_recipe(lacking)
    extra = recipe(folder, None)
    extra["how"]["paths"]["second_weights"] = "other.onnx"
    with pytest.raises(RecipeError, match=r"second_weights is for what\.monosemanticity\.encoder"):
        parse_recipe(extra)
    relative = recipe(folder, "other.onnx")
    relative["how"]["paths"]["second_weights"] = "other.onnx"
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(relative))
    assert load_recipe(file).how.paths.second_weights == str(folder / "other.onnx")
