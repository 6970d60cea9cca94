"""A plan says what a run would do, and does nothing."""

import json
from pathlib import Path

import pytest
import ray

from medsae_ray.cli import main
from medsae_ray.config import parse_recipe
from medsae_ray.plan import plan
from tests.support.small import onnx_encoder, recipe_data, table_dataset


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan")
    data = recipe_data(table_dataset(folder, 60), onnx_encoder(folder / "e.onnx"), engine="loop")
    (folder / "recipe.yaml").write_text(json.dumps(data))
    return folder / "recipe.yaml"


def test_before_a_run_and_after_it(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    assert main(["plan", str(recipe), "--root", str(root), "--json"]) == 0
    before = json.loads(capsys.readouterr().out)
    assert not root.exists(), "nothing is written"
    assert before["images"] == {"total": 61, "exact": False}, "the header's line counts in a bound"
    manifest, embeddings = before["stages"][0], before["stages"][1]
    assert manifest["stage"] == "manifest" and manifest["artifact"].startswith("manifest-") and not manifest["there"]
    assert embeddings["artifact"] is None and embeddings["after"] == ["manifest"]
    assert "sae" in before["seconds_unknown_for"] and before["problems"] == []

    assert main(["run", str(recipe), "--root", str(root)]) == 0
    made = {folder.name for folder in root.iterdir() if folder.is_dir()}
    capsys.readouterr()
    assert main(["plan", str(recipe), "--root", str(root)]) == 0
    assert "nothing is in the way" in capsys.readouterr().out
    after = plan(parse_recipe(json.loads(recipe.read_text())), str(root))
    assert all(stage["there"] for stage in after["stages"]) and {s["artifact"] for s in after["stages"]} <= made
    assert after["images"] == {"total": 60, "exact": True}

    changed = json.loads(recipe.read_text())
    changed["what"]["encoder"]["mean"] = 0.4
    again = plan(parse_recipe(changed), str(root))
    embeddings = next(stage for stage in again["stages"] if stage["stage"] == "embeddings")
    assert embeddings["artifact"] not in made and embeddings["seconds"] == pytest.approx(
        60 / embeddings["rate"]["per_second"]
    )
    assert embeddings["rate"]["unit"] == "images" and embeddings["bytes"] > 0


def test_what_is_in_the_way_is_told_and_ends_with_1(
    recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On this machine, without Ray: one that the tests have started counts as joined."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    data = json.loads(recipe.read_text())
    data["how"] |= {"engine": "ray", "cpus": 1, "embed": {"cpus": 64.0}, "train": {"workers": 3}}
    (tmp_path / "recipe.yaml").write_text(json.dumps(data))
    assert main(["plan", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path / "root")]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "in the way: how.embed.cpus is 64" in said and "in the way: how.train.workers is 3" in said
    assert "without a cluster: this machine {CPU: 1, GPU: 0}" in said
    assert main(["run", str(tmp_path / "recipe.yaml"), "--root", str(tmp_path / "root")]) == 1
    assert "3 problems:" in capsys.readouterr().err and not (tmp_path / "root").exists()


def test_a_plan_makes_no_key(recipe: Path, tmp_path: Path) -> None:
    data = json.loads(recipe.read_text())
    data["what"]["privacy"] = {"hash_ids": True}
    (first, *_) = plan(parse_recipe(data), str(tmp_path / "root"))["stages"]
    assert first["artifact"] is None and not (tmp_path / "root").exists()


def test_a_plan_of_names_bounds_the_questions(tmp_path: Path) -> None:
    from medsae_ray.config import load_recipe

    recipe = load_recipe("phantom")
    width = recipe.what.sae.settings()["width"]
    found = plan(recipe, str(tmp_path / "root"))
    asked = {stage["stage"]: stage["questions_at_most"] for stage in found["stages"] if stage["questions_at_most"]}
    # Each feature: 4 names on 50 images for the self-check; 100 images by its name, 8 controls and a trivial one, and
    # once the blank image. 14 labels on the pool of 400.
    later = width * (100 * 10 + 1)
    assert asked == {"names": width * 4 * 50, "answers": later + 14 * 400, "label_answers": later}
    assert found["prompts_for_names_at_most"] == 3 * width and found["images"]["exact"]
