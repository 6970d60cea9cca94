"""summary.json, and the figures of every record, against the types that say what is in them."""

from pathlib import Path

import pytest
import yaml

from medsae_ray.api import query
from medsae_ray.config import find_recipe, parse_recipe
from medsae_ray.core.retrieval.answer import QueryAnswer
from medsae_ray.outputs.summary_types import Summary
from medsae_ray.pipeline import run_recipe
from tests.support.small import onnx_encoder, recipe_data, table_dataset
from tests.support.typed import fits, records_fit


def test_the_check_finds_what_does_not_fit() -> None:
    for wrong in ({"recipe": 1}, {}, {"other": 2}):
        with pytest.raises(AssertionError):
            fits(wrong, Summary)


def test_the_summary_of_a_table_is_what_its_type_says(tmp_path: Path) -> None:
    data = recipe_data(table_dataset(tmp_path, 60), onnx_encoder(tmp_path / "e.onnx"), engine="loop")
    summary = run_recipe(parse_recipe(data), str(tmp_path / "root"))
    fits(summary, Summary)
    assert summary["findings"] and "names" not in summary
    fits(query(parse_recipe(data), tmp_path / "root", "bright"), QueryAnswer)
    assert {"features", "sae", "probes"} <= records_fit(tmp_path / "root")


def test_the_summary_of_several_datasets_is_what_its_type_says(tmp_path: Path) -> None:
    recipe = yaml.safe_load(find_recipe("phantom-hospitals").read_text())
    for source in recipe["what"]["datasets"]:
        source["patients"] = 60
    recipe["what"]["sae"] |= {"epochs": 3, "batch_size": 16}
    recipe["how"]["engine"] = "loop"
    summary = run_recipe(parse_recipe(recipe), str(tmp_path))
    fits(summary, Summary)
    assert summary["replication"]["datasets"] == ["north", "south"] and "names" not in summary
    assert {"manifest", "dataset_features", "replication", "duplicates"} <= records_fit(tmp_path)
