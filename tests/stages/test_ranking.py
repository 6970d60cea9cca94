"""The SAEs of a sweep on naming patients, and a run that takes the best of them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsae_ray.config import Recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.core.artifacts.columns import column
from medsae_ray.core.probing.choice import Patients, dense_areas, worth
from medsae_ray.pipeline import run_recipe, run_stage
from medsae_ray.plan import plan
from tests.support.small import onnx_encoder, recipe_data, table_dataset

SWEEP = {"grid": {"k": [1, 3], "width": [16, 48]}, "choose": True}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 480), onnx_encoder(folder / "e.onnx")


def recipe(data: tuple[Path, Path], sweep: Any = SWEEP, sae: dict[str, Any] | None = None, **how: Any) -> Recipe:
    changed = recipe_data(*data, **{"engine": "loop", **how})
    changed["what"]["sae"] = {"epochs": 8, "batch_size": 32} | (sae or {})
    changed["what"]["sweep"] = sweep
    return parse_recipe(changed)


def only(root: Path, stage: str) -> Any:
    (folder,) = (path.parent for path in root.glob(f"{stage}-*/record.json"))
    return open_artifact(str(folder))


@pytest.fixture(scope="module")
def chosen(data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("chosen")
    return root, dict(run_recipe(recipe(data), str(root)))


def test_a_run_takes_the_sae_that_ranks_best(chosen: tuple[Path, dict[str, Any]]) -> None:
    root, _ = chosen
    rows = only(root, "ranking").table().to_pylist()
    assert len(rows) == 4 and [row["chosen"] for row in rows] == [True, False, False, False]
    assert all(0 < row["at_ten"] <= 1.5 and row["needed"] >= 1 and row["monosemanticity"] >= 0 for row in rows)
    assert rows[0]["rank"] == min(row["rank"] for row in rows if row["near_front"])
    assert only(root, "activations").record.parents["sae"] == rows[0]["artifact"]
    assert rows[0]["artifact"] in (root / "sweep.html").read_text()
    assert "batch_topk chosen by a sweep" in (root / "report.html").read_text()


def test_held_out_figures_are_then_of_patients_that_chose_nothing(chosen: tuple[Path, dict[str, Any]]) -> None:
    root, summary = chosen
    rows = only(root, "activations").table(["sq_error", "sq_norm"])
    tested = column(only(root, "manifest").table(["split"]), "split") == "detection"
    error, norm = (np.nansum(column(rows, name).astype(float)[tested]) for name in ("sq_error", "sq_norm"))
    assert summary["sae"]["r2"] == pytest.approx(1 - error / norm, rel=1e-12)


def test_a_recipe_with_the_winners_settings_finds_the_same_sae(
    chosen: tuple[Path, dict[str, Any]], data: tuple[Path, Path]
) -> None:
    root, _ = chosen
    best = only(root, "ranking").table().to_pylist()[0]
    made = run_stage(recipe(data, None, json.loads(best["settings"])), str(root), "sae")
    assert made.name == best["artifact"] and len(list(root.glob("sae-*/record.json"))) == 4
    assert run_stage(recipe(data, None, json.loads(best["settings"])), str(root), "features").name != only_features(
        root
    )


def only_features(root: Path) -> str:
    return min(root.glob("features-*/record.json"), key=lambda path: path.stat().st_mtime).parent.name


def test_what_a_test_patient_has_changes_no_choice(
    chosen: tuple[Path, dict[str, Any]], data: tuple[Path, Path], tmp_path: Path
) -> None:
    """Their labels are turned over in the table; images and splits stay."""
    manifest = only(chosen[0], "manifest").table(["patient_id", "split"]).to_pylist()
    tested = {row["patient_id"].split("/")[-1] for row in manifest if row["split"] == "detection"}
    rows = list(csv.DictReader(data[0].open()))
    turned = [row | {"bright": 1 - int(row["bright"])} if row["patient"] in tested else row for row in rows]
    assert turned != rows
    table = data[0].with_name("turned.csv")
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(turned)
    run_stage(recipe((table, data[1])), str(tmp_path), "ranking")
    assert (
        only(tmp_path, "ranking")
        .table()
        .drop(["artifact"])
        .equals(only(chosen[0], "ranking").table().drop(["artifact"]))
    )


def test_tasks_on_ray_rank_as_a_loop_does(
    chosen: tuple[Path, dict[str, Any]], data: tuple[Path, Path], ray_cluster: None, tmp_path: Path
) -> None:
    run_stage(recipe(data), str(tmp_path), "sweep")
    made = run_stage(recipe(data, engine="ray"), str(tmp_path), "ranking")
    assert made.table().equals(only(chosen[0], "ranking").table())


def test_a_default_grid_follows_from_the_rows_and_the_plan_knows_what_comes_first(
    data: tuple[Path, Path], tmp_path: Path
) -> None:
    wanted = recipe(data, {"choose": True}, {"epochs": 1})
    stages = {stage["stage"]: stage for stage in plan(wanted, str(tmp_path))["stages"]}
    assert {"sweep", "ranking", "sae"} <= set(stages) and "ranking" in stages["sae"]["after"]
    run_stage(wanted, str(tmp_path), "sae")
    rows = only(tmp_path, "ranking").table().to_pylist()
    assert 3 <= len(rows) <= 9 and len({row["artifact"] for row in rows}) == len(rows)


def test_without_labels_a_sae_is_chosen_all_the_same(data: tuple[Path, Path], tmp_path: Path) -> None:
    changed = recipe_data(*data, engine="loop")
    changed["what"]["dataset"]["labels"] = []
    changed["what"]["sae"] = {"epochs": 1, "batch_size": 32, "width": 16}
    changed["what"]["sweep"] = {"grid": {"k": [1, 2]}, "choose": True}
    rows = run_stage(parse_recipe(changed), str(tmp_path), "ranking").table().to_pylist()
    assert sum(row["chosen"] for row in rows) == 1
    assert {row[name] for row in rows for name in ("monosemanticity", "needed", "at_ten", "rank")} == {None}


def test_few_features_that_carry_a_label_are_worth_more_than_many() -> None:
    """Label 0 is feature 3 in one code; the other code spreads it over twenty features."""
    rng = np.random.default_rng(0)
    y_NL = (rng.random((600, 2)) < 0.4).astype(float)
    one = rng.random((600, 24)) * (rng.random((600, 24)) < 0.2)
    one[:, 3], one[:, 4] = y_NL[:, 0], y_NL[:, 1]
    spread = np.abs(rng.normal(size=(600, 24)) + 0.5 * y_NL @ rng.choice([-1, 1], size=(2, 24)))
    found = []
    for z_NF in (one, spread):
        fit, other = (Patients(z_NF[rows], y_NL[rows], y_NL[rows]) for rows in (slice(0, 400), slice(400, 600)))
        dense = dense_areas(*(Patients(one[rows], y_NL[rows], y_NL[rows]) for rows in (slice(0, 400), slice(400, 600))))
        found.append(worth(fit, other, dense))
    assert dense == pytest.approx([1, 1])
    assert found[0].needed == 1 and found[0].at_ten == pytest.approx(1)
    assert found[1].needed > 5 and found[1].at_ten < 1
    assert found[0].monosemanticity > found[1].monosemanticity
