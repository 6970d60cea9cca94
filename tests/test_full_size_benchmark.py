"""The dry run's made artifacts are those that a run's later stages take, and its watch sees memory."""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from full_size import RECIPES, found, prepared
from full_size_inputs import plant
from full_size_scans import plant_organs, scans_of
from full_size_watch import stages, watch

from medsae_ray.config import Recipe, load_recipe, read_change
from medsae_ray.core.datasets.labels import CHEXPERT
from medsae_ray.pipeline import run_recipe, run_stage

TINY = ("how.engine=loop", "what.sae.epochs=1", "what.sae.batch_size=64", "what.recovery.sizes=[1, 2]")


def recipe_of(paper: str, changes: list[str]) -> Recipe:
    return load_recipe(RECIPES[paper], [read_change(change) for change in (*changes, *TINY)])


def labels(folder: Path, rows: int) -> Path:
    rng = np.random.default_rng(0)
    table = {
        "patient_id": np.arange(rows) // 2,
        "study_id": np.ones(rows, int),
        "view": np.arange(rows) % 2,
        "Sex": rng.choice(["Male", "Female"], rows),
        "Age": rng.integers(20, 90, rows),
        "Frontal/Lateral": ["Frontal"] * rows,
        "AP/PA": rng.choice(["AP", "PA"], rows),
        **{label: rng.choice([1.0, 0.0], rows) for label in CHEXPERT},
    }
    pq.write_table(pa.table(table), folder / "labels.parquet")
    return folder / "labels.parquet"


def test_a_run_goes_on_from_planted_radiographs_and_finds_their_labels(tmp_path: Path) -> None:
    root = tmp_path / "root"
    recipe = recipe_of("medsae", [*prepared("medsae", root, labels(tmp_path, 400), 300), "what.sae.width=32"])
    run_stage(recipe, str(root), "manifest")
    plant(recipe, str(root))
    run_recipe(recipe, str(root))
    told = found(root)
    assert told["labels tested"] == 14
    assert told["AUROC of 0.9 by a probe on all dimensions"] > 7
    assert {row["stage"] for row in stages(root, root / "watched")} >= {"embeddings", "recovery", "atlas"}


def test_planted_slices_have_the_rows_and_the_stages_that_were_asked_for(tmp_path: Path) -> None:
    recipe = recipe_of("sail", prepared("sail", tmp_path, None, 900))
    plant_organs(recipe, scans_of(900), str(tmp_path))
    manifest = run_stage(recipe, str(tmp_path), "manifest")
    plant(recipe, str(tmp_path))
    assert manifest.record.rows == 900
    assert len(manifest.record.metrics["labels"]) == 121
    assert run_stage(recipe, str(tmp_path), "likeness").record.rows == 900
    assert run_stage(recipe, str(tmp_path), "duplicates").record.parents["fingerprints"]
    assert run_stage(recipe, str(tmp_path), "random_embeddings").record.run["seconds"] > 0


def test_the_watch_sees_the_memory_of_a_child_of_the_command(tmp_path: Path) -> None:
    held = "import time; held = b'x' * 300_000_000; time.sleep(1.5)"
    watch(
        [sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {held!r}])"],
        tmp_path,
        {},
    )
    (row,) = stages(tmp_path, tmp_path)
    assert 0.25 < row["total"] < 0.5
