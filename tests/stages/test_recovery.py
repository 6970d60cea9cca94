"""What few features keep of all dimensions, from a table of images to the stage's rows."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact
from medsae_ray.core.artifacts.recovery import RecoveryMetrics
from medsae_ray.core.probing import probed
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_stage
from tests.support.small import onnx_encoder, recipe_data, table_dataset
from tests.support.typed import fits


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 400), onnx_encoder(folder / "e.onnx")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


def with_columns(table: Path, name: str, **columns: list[str]) -> Path:
    """The table with other values of some columns, by patient."""
    rows = list(csv.DictReader(table.open()))
    for row in rows:
        row |= {key: values[int(row["patient"][1:]) % len(values)] for key, values in columns.items()}
    with (table.parent / name).open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return table.parent / name


def recipe(table: Path, weights: Path, columns: tuple[str, ...] = ("view",), **recovery: Any) -> Any:
    found = recipe_data(table, weights, engine="loop")
    found["what"]["dataset"]["metadata"] = list(columns)
    found["what"] |= {"shard_rows": 64, "recovery": {"sizes": [3, 1, 10], **recovery}}
    found["what"]["sae"] |= {"epochs": 4, "batch_size": 32}
    return found


def made(data: dict[str, Any], root: Path) -> tuple[list[dict[str, Any]], RecoveryMetrics]:
    artifact: Artifact = run_stage(parse_recipe(data), str(root), "recovery")
    fits(artifact.record.metrics, RecoveryMetrics)
    return artifact.table().to_pylist(), artifact.record.metrics  # type: ignore[return-value]


def test_labels_and_metadata_are_probed_with_their_controls(data: tuple[Path, Path], root: Path) -> None:
    ages = [str(20 + number) for number in range(40)] + ["nan", ""]
    table = with_columns(data[0], "aged.csv", age=ages, sex=["f", "m"])
    rows, figures = made(recipe(table, data[1], ("age", "sex", "view"), thresholds={"age": ["<40"]}), root)
    assert {row["target"] for row in rows} == {"bright", "left", "age<40", "sex=f", "view=PA"}
    of_bright = {(row["kind"], row["n"]): row for row in rows if row["target"] == "bright"}
    kinds = ("features", "group", "dimensions", "components", "random", "shuffled")
    assert {(kind, n) for kind in kinds for n in (1, 3)} <= set(of_bright)
    assert all(row["low"] <= row["auroc"] <= row["high"] for row in of_bright.values())
    assert of_bright["dimensions", None]["auroc"] > 0.9 and of_bright["dimensions", None]["columns"] is None
    three = of_bright["features", 3]
    assert len(three["columns"]) == 3 and three["auroc"] > of_bright["shuffled", 3]["auroc"]
    assert three["columns"][:1] == of_bright["features", 1]["columns"]
    by_target = {row["target"]: row for row in rows if row["kind"] == "dimensions" and row["n"] is None}
    assert by_target["age<40"]["patients"] < by_target["bright"]["patients"], "an unknown age is left out"
    assert figures["untested"] == {"view=PA": "0 training patients without it, 10 are needed"}
    assert (figures["targets"], figures["tested"]) == (5, 4) and 2 <= figures["counted"] <= 4
    points = {(point["kind"], point["n"]): point for point in figures["curves"]}
    assert points["dimensions", None]["above_chance"] == points["dimensions", None]["ratio"] == 1


def test_what_sail_does_is_one_setting_and_other_artifacts_keep_their_names(
    data: tuple[Path, Path], root: Path
) -> None:
    rows, _ = made(recipe(*data, compat="sail"), root)
    assert {row["strength"] for row in rows if row["kind"]} == {1.0}
    plain, _ = made(recipe(*data), root)
    assert {row["strength"] for row in plain if row["kind"]} > {1.0}
    assert len([*root.glob("recovery-*")]) >= 2 and len([*root.glob("sae-*")]) <= 2


def test_a_run_that_was_cut_short_summarises_all_targets(
    data: tuple[Path, Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(*data, seed=3)
    fitted = probed.probe_rows

    def once(table: Any, targets: Any, *rest: Any) -> Any:
        if targets[0].name == "left":
            raise InterruptedError
        return fitted(table, targets, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(probed, "probe_rows", once)
        patch.setattr("medsae_ray.stages.recovery.TARGETS_PER_TASK", 1)
        with pytest.raises(InterruptedError):
            made(wanted, root)
    rows, figures = made(wanted, root)
    assert {row["target"] for row in rows} == {"bright", "left", "view=PA"} and figures["targets"] == 3


@pytest.mark.parametrize(
    ("values", "columns", "said"),
    [
        (
            {"bright": [""], "left": ["1"]},
            (),
            {"0 training patients with it, 10 are needed", "0 training patients without it, 10 are needed"},
        ),
        (
            {"bright": ["1", *["0"] * 30], "left": [""], "view": ["nan", ""]},
            ("view",),
            {"no value in a training patient"},
        ),
        ({"view": [f"id{number}" for number in range(200)]}, ("view",), {"are no categories"}),
        (
            {"bright": [""], "left": [""], "patient": ["p0", "p1", "p2"]},
            ("view",),
            {"10 are needed"},
        ),
    ],
    ids=["one class", "few positives", "identifiers", "three patients"],
)
def test_a_target_that_cannot_be_probed_is_a_row_with_the_reason(
    data: tuple[Path, Path], tmp_path: Path, values: dict[str, list[str]], columns: tuple[str, ...], said: set[str]
) -> None:
    table = with_columns(data[0], f"{len(str(values))}.csv", **values)
    wanted = recipe(table, data[1], columns)
    wanted["what"]["sae"] |= {"epochs": 1, "width": 8}
    rows, figures = made(wanted, tmp_path)
    lost = [row for row in rows if row["kind"] is None]
    assert all(row["auroc"] is None and row["untested"] for row in lost)
    assert all(any(words in reason for reason in figures["untested"].values()) for words in said)
    assert {row["target"] for row in lost} == set(figures["untested"])


def test_without_labels_and_metadata_there_is_no_row(data: tuple[Path, Path], tmp_path: Path) -> None:
    wanted = recipe(*data, columns=())
    wanted["what"]["dataset"]["labels"] = []
    rows, figures = made(wanted, tmp_path)
    assert rows == [] and (figures["targets"], figures["counted"], figures["dense"]) == (0, 0, None)


def test_ray_tasks_give_the_rows_of_one_process(
    ray_cluster: None, data: tuple[Path, Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = recipe(*data)
    alone, figures = made(wanted, root)
    for artifact in root.glob("*-*"):
        if not artifact.name.startswith("recovery"):
            (tmp_path / artifact.name).symlink_to(artifact)
    monkeypatch.setattr("medsae_ray.stages.recovery.TARGETS_PER_TASK", 1)
    rows, other = made(wanted | {"how": {**wanted["how"], "engine": "ray"}}, tmp_path)
    assert rows == alone and other == figures


def test_a_threshold_is_a_sign_and_a_number() -> None:
    from medsae_ray.errors import RecipeError

    wanted = recipe(Path("t.csv"), Path("e.onnx"), thresholds={"age": ["40"]})
    with pytest.raises(RecipeError, match="thresholds"):
        parse_recipe(wanted)
    assert np.all(np.diff(parse_recipe(recipe(Path("t"), Path("e"))).what.recovery.sizes) != 0)


def test_an_encoder_with_random_weights_stands_beside_the_trained_one(
    data: tuple[Path, Path], tmp_path: Path, root: Path
) -> None:
    found = recipe(data[0], data[1], random_weights=1)
    found["what"]["encoder"], found["how"]["paths"]["weights"] = {"kind": "medclip-vit"}, "builtin:phantom-encoder"
    rows, figures = made(found, tmp_path)
    of_bright = {(row["kind"], row["n"]): row for row in rows if row["target"] == "bright"}
    assert {("random_weights", n) for n in (None, 1, 3, 10)} < set(of_bright)
    assert of_bright["random_weights", 10]["columns"] != of_bright["dimensions", 10]["columns"]
    assert "random_weights" in {point["kind"] for point in figures["curves"]}
    trained, control = (next(tmp_path.glob(f"{name}-*")).name for name in ("embeddings", "random_embeddings"))
    first, other = (open_artifact(str(tmp_path / name)).table().drop(["x"]) for name in (trained, control))
    assert first.equals(other)


def test_a_fixed_graph_has_no_random_weights(data: tuple[Path, Path]) -> None:
    with pytest.raises(RecipeError, match="random_weights draws the weights of an encoder in torch, and onnx is none"):
        parse_recipe(recipe(*data, random_weights=1))


def test_labels_in_groups_of_their_own_share_no_order(data: tuple[Path, Path], root: Path) -> None:
    rows, _ = made(recipe(*data, groups={"sides": ["left"], "tones": ["bright"]}), root)
    assert {row["target"]: row["group"] for row in rows} == {"left": "sides", "bright": "tones", "view=PA": "view"}
    plain, _ = made(recipe(*data), root)
    orders = [
        {row["target"]: row["columns"] for row in found if row["kind"] == "group" and row["n"] == 10}
        for found in (rows, plain)
    ]
    assert orders[0]["left"] != orders[0]["bright"] and orders[1]["left"] == orders[1]["bright"]


def test_a_group_has_labels_that_there_are_and_each_once(data: tuple[Path, Path], root: Path) -> None:
    with pytest.raises(RecipeError, match=r"what\.recovery\.groups names 'up', which is no label"):
        made(recipe(*data, groups={"sides": ["left", "up"]}), root)
    with pytest.raises(RecipeError, match="label 'left' is in more than one group"):
        parse_recipe(recipe(*data, groups={"sides": ["left"], "tones": ["left"]}))
