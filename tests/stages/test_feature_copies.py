"""Copies are found in stored activations, whatever the shards, and a run says so."""

from pathlib import Path
from typing import Any

import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from medsae_ray.stages.feature_copies import feature_warnings
from tests.support.small import onnx_encoder, recipe_data, table_dataset


def codes(*args: Any) -> list[str]:
    return [warning.code for warning in feature_warnings(*args)]


@pytest.mark.parametrize(
    ("width", "alive", "groups", "wanted"),
    [
        (100, 51, [], []),
        (100, 49, [], ["dead_features"]),
        (8192, 430, [list(range(112))], ["dead_features", "copied_features"]),
        (100, 100, [[1, 2], [3, 4, 5]], []),
        (100, 100, [[1, 2], [3, 4, 5, 6, 7, 8]], ["copied_features"]),
        (100, 0, [], ["dead_features"]),
    ],
)
def test_what_is_said_of_a_dictionary(width: int, alive: int, groups: list[list[int]], wanted: list[str]) -> None:
    assert codes(width, alive, groups) == wanted


def test_a_dictionary_that_is_too_wide_is_warned_of_and_its_copies_do_not_depend_on_shards(tmp_path: Path) -> None:
    data = recipe_data(table_dataset(tmp_path / "data"), onnx_encoder(tmp_path / "encoder.onnx"), engine="loop")
    data["what"]["sae"] |= {"width": 600, "k": 4, "epochs": 200}
    found = []
    for shard_rows in (8, 50):
        data["what"]["shard_rows"] = shard_rows
        features = run_stage(parse_recipe(data), str(tmp_path / str(shard_rows)), "features")
        found.append(features.record.metrics)
    assert found[0]["copies"] == found[1]["copies"]
    metrics = found[0]
    assert metrics["sae"]["dead"] > 0.5
    assert "dead_features" in codes(metrics["sae"]["width"], metrics["sae"]["alive"], metrics["copies"])
