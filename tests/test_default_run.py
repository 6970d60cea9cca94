"""The embedded default finds, names and verifies what was planted, on patients that neither the SAE nor the choice of
labels saw.

Fewer patients here than in the packaged recipe, for time. MEDSAE_FULL=1 takes all of them, and then asks for more.
"""

import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import pytest
import yaml

from medsae_ray.config import find_recipe
from medsae_ray.core.phantom import FINDINGS
from medsae_ray.outputs.summary_types import Summary
from tests.support.typed import fits, records_fit


class Aims(NamedTuple):
    """How many of the 13 planted findings at least."""

    found: int
    """have a feature with AUROC >= 0.90"""
    right: int
    """have a feature with the right name, verified"""
    near: int
    """of these within 0.1 of what the model can see at all."""


FULL = os.environ.get("MEDSAE_FULL") == "1"
AIMS = Aims(found=10, right=8, near=8) if FULL else Aims(found=9, right=5, near=4)


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """summary.json of the recipe. With few patients shards are computed in a plain loop: the same results without the
    start-up of Ray Data and Ray Train. The model is hosted by Ray Serve and vLLM as always."""
    folder = tmp_path_factory.mktemp("phantom")
    recipe = yaml.safe_load(find_recipe("phantom").read_text())
    if not FULL:
        recipe["how"]["engine"] = "loop"
        recipe["what"]["dataset"]["patients"] = 1400
        recipe["what"]["naming"]["detection"] |= {"positives": 35, "negatives": 35, "pool": 300, "support": 20}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    medsae = [sys.executable, "-m", "medsae_ray.cli", "run", str(folder / "recipe.yaml"), "--root", str(folder)]
    subprocess.run(medsae, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=880)
    assert {"names", "answers", "scores"} <= records_fit(folder)
    return json.loads((folder / "summary.json").read_text())


@pytest.mark.timeout(900)
def test_the_summary_of_a_run_with_names_is_what_its_type_says(summary: Any) -> None:
    fits(summary, Summary)
    assert summary["names"]["features"] > 0


@pytest.mark.timeout(900)
def test_planted_findings_have_a_feature_with_auroc_090(summary: Any) -> None:
    found = {name: summary["findings"][name]["auroc"] for name in FINDINGS}
    assert sum(auroc >= 0.90 for auroc in found.values()) >= AIMS.found, found


def test_the_features_entropy_is_below_raw_by_more_than_three_null_deviations(summary: Any) -> None:
    entropy = summary["entropy"]
    assert entropy["sae"] < entropy["raw"] - 3 * entropy["null_sd"]


def test_reconstruction_on_held_out_patients_is_good_and_nothing_was_lost(summary: Any) -> None:
    assert summary["sae"]["r2"] > 0.80 and summary["sae"]["dead"] < 0.2
    rows = {stage["name"]: (stage["rows"], stage["not_ok"]) for stage in summary["stages"]}
    assert rows["images"] == rows["manifest"] == rows["embeddings"] == rows["activations"] and rows["images"][1] == 0


def test_planted_findings_are_named_rightly_and_verified(summary: Any) -> None:
    found = summary["findings"]
    right = [name for name in FINDINGS if found[name]["name"] == name and found[name]["verdict"] == "verified"]
    near = [name for name in right if found[name]["detection_auroc"] >= found[name]["ceiling"] - 0.1]
    assert len(right) >= AIMS.right and len(near) >= AIMS.near, found
    if FULL:
        assert 0.45 <= summary["names"]["random_name_auroc"] <= 0.55
    assert summary["names"]["failed"] == 0 and summary["names"]["verified"] > 2 * summary["names"]["expected_by_chance"]


def test_the_model_sees_every_planted_finding(summary: Any) -> None:
    assert all(summary["findings"][name]["ceiling"] > 0.85 for name in FINDINGS)
