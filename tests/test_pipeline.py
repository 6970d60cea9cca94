import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import medsae_ray
from medsae_ray.config import Recipe, load_recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import verify
from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_recipe, run_stage
from medsae_ray.runtime.status import statuses
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("data")
    return table_dataset(folder, 240), onnx_encoder(folder / "e.onnx")


def recipe(data: tuple[Path, Path], **how: Any) -> Recipe:
    return parse_recipe(recipe_data(*data, **how))


def files(root: Path) -> dict[str, tuple[int, int]]:
    """Artifact file -> (inode, time of change): what a second run must leave alone."""
    return {
        str(p.relative_to(root)): (p.stat().st_ino, p.stat().st_mtime_ns) for p in root.glob("*-*/*") if p.is_file()
    }


@pytest.fixture(scope="module")
def ray_run(ray_cluster: None, data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    root = tmp_path_factory.mktemp("ray")
    return root, run_recipe(recipe(data), str(root))


def test_a_run_goes_from_images_to_summary_and_report(ray_run: tuple[Path, Any]) -> None:
    root, summary = ray_run
    assert summary == json.loads((root / "summary.json").read_text())
    names = [stage["name"] for stage in summary["stages"]]
    measured = ["features", "probes", "recovery", "monosemanticity", "retrieval", "likeness", "feature_map"]
    assert names == ["manifest", "embeddings", "sae", "activations", *measured, "label_names", "atlas"]
    assert set(summary["sae"]) == {"r2", "fvu", "l0", "dead"}
    assert math.isclose(summary["sae"]["r2"], 1 - summary["sae"]["fvu"])
    assert all(summary["findings"][label]["auroc"] > 0.7 for label in ("bright", "left"))
    assert all(summary["findings"][label]["probe"]["features"]["auroc"] > 0.9 for label in ("bright", "left"))
    assert "<svg" in (root / "report.html").read_text()
    for stage in summary["stages"]:
        assert verify(medsae_ray.open_artifact(root / stage["artifact"])) == []


def test_a_second_run_computes_nothing_and_says_the_same(ray_run: tuple[Path, Any], data: tuple[Path, Path]) -> None:
    root, first = ray_run
    before = files(root)
    second = run_recipe(recipe(data), str(root))
    assert files(root) == before
    assert all(stage["seconds"] == 0 for stage in second["stages"])
    assert {k: v for k, v in first.items() if k != "stages"} == {k: v for k, v in second.items() if k != "stages"}


def test_how_does_not_change_names_or_results(
    ray_run: tuple[Path, Any], data: tuple[Path, Path], tmp_path: Path
) -> None:
    _, ray = ray_run
    loop = run_recipe(recipe(data, engine="loop", embed={"batch_size": 3}), str(tmp_path))
    assert [s["artifact"] for s in ray["stages"]] == [s["artifact"] for s in loop["stages"]]
    assert ray["findings"]["left"]["pearson"] == pytest.approx(loop["findings"]["left"]["pearson"], abs=1e-5)
    assert ray["entropy"]["raw"] == pytest.approx(loop["entropy"]["raw"], abs=1e-6)


def test_two_workers_train_the_same_sae(ray_run: tuple[Path, Any], data: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(ray_run[0], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("sae-*"))
    two = run_stage(recipe(data, train={"workers": 2, "cpus": 0.5}), str(tmp_path), "sae")
    (one,) = [stage for stage in ray_run[1]["stages"] if stage["name"] == "sae"]
    alone = medsae_ray.open_artifact(ray_run[0] / one["artifact"]).record.metrics["last_epoch"]
    last = two.record.metrics["last_epoch"]
    assert last["fvu"] == pytest.approx(alone["fvu"], rel=5e-3)
    told = next(stage for stage in statuses(Store(str(tmp_path)))[0]["stages"] if stage["name"] == "sae")
    assert told["done"] == told["total"] and told["numbers"]["fvu"] == pytest.approx(last["fvu"])


def test_a_stage_brings_what_it_needs_and_no_more(data: tuple[Path, Path], tmp_path: Path) -> None:
    run_stage(recipe(data, engine="loop"), str(tmp_path), "embeddings")
    assert {p.name.split("-")[0] for p in tmp_path.glob("*-*")} == {"manifest", "embeddings"}


@pytest.mark.parametrize(
    ("stage", "message"),
    [("embed", "the stages are images, volumes, organs, manifest"), ("images", "a dataset of kind phantom")],
)
def test_a_wrong_stage_is_refused(data: tuple[Path, Path], tmp_path: Path, stage: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        run_stage(recipe(data), str(tmp_path), stage)


def test_a_phantom_run_never_uses_patients_that_the_encoder_was_trained_on(tmp_path: Path) -> None:
    recipe = load_recipe("phantom")
    dataset = replace(recipe.what.dataset, seed=1_000_000)
    changed = recipe.model_copy(update={"what": recipe.what.model_copy(update={"dataset": dataset})})
    with pytest.raises(RecipeError, match="shipped models were trained on patients of seeds 1000000 to"):
        run_stage(changed, str(tmp_path), "images")


def test_gpus_that_the_cluster_lacks_are_refused(ray_cluster: None, data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"how\.embed\.gpus is 1: .* the Ray cluster, which has \{CPU: "):
        run_stage(recipe(data, embed={"gpus": 1}), str(tmp_path), "embeddings")
    assert not [*tmp_path.iterdir()], "it is said before the first stage"


def test_the_policy_for_uncertain_labels_does_not_touch_embeddings(data: tuple[Path, Path], tmp_path: Path) -> None:
    changed = recipe_data(*data, engine="loop")
    changed["what"]["dataset"]["uncertain"] = "one"
    first = run_stage(recipe(data, engine="loop"), str(tmp_path), "features")
    second = run_stage(parse_recipe(changed), str(tmp_path), "features")
    assert first.name != second.name and first.record.parents == second.record.parents


def test_the_public_functions_read_what_a_run_wrote(data: tuple[Path, Path], tmp_path: Path) -> None:
    table, weights = data
    sae = run_stage(recipe(data, engine="loop"), str(tmp_path), "sae")
    activations = run_stage(recipe(data, engine="loop"), str(tmp_path), "activations")
    images = sorted(table.parent.glob("*.png"))[:5]
    x = medsae_ray.load_encoder("onnx", str(weights), size=16).encode(images, batch_size=2)
    loaded = medsae_ray.load_sae(sae.store.uri)
    z = loaded.encode(x)
    stored = activations.table().slice(0, 5).to_pylist()
    for row, z_M in zip(stored, z, strict=True):
        assert row["feature"] == z_M.nonzero()[0].tolist()
        assert row["value"] == pytest.approx(z_M[row["feature"]].tolist(), rel=1e-5)
    assert loaded.decode(z).shape == x.shape == (5, 12)


def test_a_root_keeps_no_half_written_file(data: tuple[Path, Path], tmp_path: Path) -> None:
    run_recipe(recipe(data, engine="loop"), str(tmp_path))
    assert not [p for p in tmp_path.rglob(".*")] and Store(str(tmp_path)).exists("summary.json")
