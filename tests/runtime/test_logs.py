"""A run's log for machines: records with fields, and the command line's handler."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture
def data(tmp_path: Path) -> dict[str, object]:
    return recipe_data(table_dataset(tmp_path, 40), onnx_encoder(tmp_path / "e.onnx"), engine="loop")


def test_a_program_that_runs_a_stage_hears_of_each(
    data: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "medsae_ray.run"):
        run_stage(parse_recipe(data), str(tmp_path / "root"), "embeddings")
    records = [record for record in caplog.records if record.name == "medsae_ray.run"]
    last = {record.stage["name"]: record.stage for record in records}  # type: ignore[attr-defined]
    assert {name: stage["state"] for name, stage in last.items()} == {"manifest": "done", "embeddings": "done"}
    assert last["embeddings"]["rows"] == 40 and last["embeddings"]["counts"]["rows"] == 40


def command(tmp_path: Path, data: dict[str, object], **environment: str) -> "subprocess.CompletedProcess[str]":
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(yaml.safe_dump(data))
    call = [sys.executable, "-m", "medsae_ray.cli", "stage", "embeddings", str(recipe), "--root", str(tmp_path / "r")]
    return subprocess.run(call, env=os.environ | environment, capture_output=True, text=True)


def test_the_command_line_writes_json_if_it_is_asked(data: dict[str, object], tmp_path: Path) -> None:
    done = command(tmp_path, data, MEDSAE_LOG="json")
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert {entry["stage"]["name"] for entry in said if "stage" in entry} == {"manifest", "embeddings"}
    assert all({"time", "level", "logger", "message"} <= entry.keys() for entry in said)
    assert len({entry["run"] for entry in said if "run" in entry}) == 1


def test_a_level_that_is_none_is_refused(data: dict[str, object], tmp_path: Path) -> None:
    done = command(tmp_path, data, MEDSAE_LOG_LEVEL="loud")
    assert done.returncode == 1
    assert done.stderr == (
        "medsae: the environment's MEDSAE_LOG_LEVEL is 'loud'; it is one of debug, info, warning, error\n"
    )
