"""The embedded default finds what was planted, on patients that neither the SAE nor the choice of labels saw."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from medsae_ray.config import find_recipe
from medsae_ray.core.phantom import FINDINGS


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """summary.json of the packaged recipe, run in a plain loop: the same results without a cluster's start-up."""
    folder = tmp_path_factory.mktemp("phantom")
    recipe = yaml.safe_load(find_recipe("phantom").read_text())
    recipe["how"]["engine"] = "loop"
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    medsae = [sys.executable, "-m", "medsae_ray.cli", "run", str(folder / "recipe.yaml"), "--root", str(folder)]
    subprocess.run(medsae, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=580)
    return json.loads((Path(folder) / "summary.json").read_text())


def test_at_least_ten_planted_findings_have_a_feature_with_auroc_090(summary: Any) -> None:
    found = {name: summary["findings"][name]["auroc"] for name in FINDINGS}
    assert sum(auroc >= 0.90 for auroc in found.values()) >= 10, found


def test_the_features_entropy_is_below_raw_by_more_than_three_null_deviations(summary: Any) -> None:
    entropy = summary["entropy"]
    assert entropy["sae"] < entropy["raw"] - 3 * entropy["null_sd"]


def test_reconstruction_on_held_out_patients_is_good_and_nothing_was_lost(summary: Any) -> None:
    assert summary["sae"]["r2"] > 0.9 and summary["sae"]["dead"] < 0.2
    rows = {stage["name"]: (stage["rows"], stage["not_ok"]) for stage in summary["stages"]}
    assert rows["images"] == rows["manifest"] == rows["embeddings"] == rows["activations"] and rows["images"][1] == 0
