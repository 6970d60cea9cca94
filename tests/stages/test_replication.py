"""Two small hospitals in one run: findings that both have, a shortcut of the first alone, and an image of both."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

import medsae_ray
from medsae_ray.config import Recipe, find_recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import run_recipe, run_stage
from tests.support.small import SIZE, onnx_encoder

SIGNS = {"bright": np.s_[:12, :], "left": np.s_[:, :12], "device": np.s_[15:, 15:]}
LABELS = list(SIGNS)


def hospital(folder: Path, seed: int, prevalence: float, shortcut: bool, contrast: float) -> Path:
    """300 images of 150 patients. `device` shows nothing: a marker does, with it (`shortcut`) or at random."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    rows = []
    for number in range(300):
        present = dict(zip(LABELS, (rng.random(3) < prevalence).astype(int).tolist(), strict=True))
        signs = present | {"device": present["device"] if shortcut else int(rng.random() < prevalence)}
        pixels = rng.normal(90, 10, (24, 24))
        for name, sign in signs.items():
            pixels[SIGNS[name]] += 60 * sign
        name = f"i{number:04d}.png"
        Image.fromarray((pixels * contrast).clip(0, 255).astype(np.uint8)).save(folder / name)
        rows.append({"path": name, "who": f"p{number // 2}", **present})
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return folder / "labels.csv"


def recipe(folder: Path, **what: Any) -> Recipe:
    columns = {"kind": "table", "image": "path", "patient": "who", "labels": LABELS}
    data = {
        "name": "two",
        "what": {
            "datasets": [columns | {"name": "north"}, columns | {"name": "south"}],
            "labels": {name: {"north": name, "south": name} for name in LABELS},
            "shard_rows": 64,
            "encoder": {"kind": "onnx", "size": SIZE},
            "sae": {"architecture": "batch_topk", "width": 16, "k": 3, "epochs": 40, "batch_size": 64, "lr": 3e-3},
            "features": {"top_images": 4, "permutations": 2},
            **what,
        },
        "how": {
            "engine": "loop",
            "paths": {
                "weights": str(folder / "e.onnx"),
                "datasets": {name: {"table": str(folder / name / "labels.csv")} for name in ("north", "south")},
            },
        },
    }
    return parse_recipe(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hospitals")
    onnx_encoder(folder / "e.onnx")
    hospital(folder / "north", 1, 0.4, shortcut=True, contrast=1.0)
    hospital(folder / "south", 2, 0.3, shortcut=False, contrast=0.9)
    known = Image.open(folder / "north/i0007.png")
    known.point(lambda grey: min(255, grey + 3)).save(folder / "south/i0123.png")
    return folder


@pytest.fixture(scope="module")
def summary(folder: Path) -> dict[str, Any]:
    return run_recipe(recipe(folder), str(folder / "run"))


def test_findings_replicate_and_the_shortcut_does_not(summary: dict[str, Any]) -> None:
    verdict = {(row["source"], row["label"]): row["verdict"] for row in summary["replication"]["findings"]}
    assert verdict["north", "bright"] == verdict["north", "left"] == "replicated"
    assert verdict["south", "bright"] == verdict["south", "left"] == "replicated"
    assert verdict["north", "device"] == "not_replicated" and verdict["south", "device"] == "not_selected"


def test_every_selected_pair_is_in_the_table_with_its_interval_in_each_dataset(
    folder: Path, summary: dict[str, Any]
) -> None:
    name = next(stage["artifact"] for stage in summary["stages"] if stage["name"] == "replication")
    rows = medsae_ray.open_artifact(folder / "run" / name).table().to_pylist()
    assert len(rows) == 2 * sum(counts["selected"] for counts in summary["replication"]["pairs"].values())
    for row in rows:
        assert (row["holds"] is None) == (row["source"] == row["dataset"])
        assert row["r"] is None or row["r_low"] <= row["r"] <= row["r_high"]
    replicated = {(r["source"], r["feature"], r["label"]) for r in rows if r["verdict"] == "replicated"}
    assert len(replicated) == sum(counts["replicated"] for counts in summary["replication"]["pairs"].values())


def test_an_image_that_two_datasets_hold_is_reported(folder: Path, summary: dict[str, Any]) -> None:
    assert summary["duplicates"]["pairs"] == {"north and south": 1}
    name = next(stage["artifact"] for stage in summary["stages"] if stage["name"] == "duplicates")
    (row,) = medsae_ray.open_artifact(folder / "run" / name).table().to_pylist()
    assert (row["image_id_a"], row["image_id_b"]) == ("north/i0007.png", "south/i0123.png")


def test_each_dataset_has_a_features_table_over_its_own_images(folder: Path, summary: dict[str, Any]) -> None:
    found = run_stage(recipe(folder), str(folder / "run"), "dataset_features")
    whole = run_stage(recipe(folder), str(folder / "run"), "features").table().to_pylist()
    parts = [found.part(number).to_pylist() for number in (0, 1)]
    for north, south, both in zip(*parts, whole, strict=True):
        assert north["n_images"] == south["n_images"] == 300 and both["n_images"] == 600
        assert north["n_active"] + south["n_active"] == both["n_active"]
        assert all(image.startswith("north/") for image in north["top_images"])


def test_summary_and_report_show_it(folder: Path, summary: dict[str, Any]) -> None:
    assert json.loads((folder / "run/summary.json").read_text())["replication"] == summary["replication"]
    report = (folder / "run/report.html").read_text()
    assert 'id="replication"' in report and "Pearson r in south" in report


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ({"labels": {"x": {"nort": "bright"}}}, r"what\.labels names dataset 'nort'; what\.datasets has north, south"),
        ({"dataset": {"kind": "phantom"}}, r"exactly one of what\.dataset \(one\) and what\.datasets"),
        ({"datasets": [{"kind": "phantom"}, {"kind": "phantom"}], "labels": {}}, "each needs a `name` of its own"),
        (
            {"datasets": [{"kind": "phantom"}, {"kind": "phantom", "name": "a/b"}], "labels": {}},
            "dataset 'a/b': several datasets have names without /",
        ),
        (
            {"datasets": [{"kind": "phantom"}, {"kind": "phantom", "name": " "}], "labels": {}},
            "a dataset is called ' '",
        ),
        ({"datasets": [{"kind": "phantom", "sead": 3}, {"kind": "phantom"}]}, r"what\.datasets\.0\.sead: unknown key"),
    ],
)
def test_a_recipe_that_does_not_fit_is_refused(tmp_path: Path, what: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path, **what)


def test_paths_are_those_of_each_dataset(tmp_path: Path) -> None:
    data = recipe(tmp_path).model_dump()
    del data["how"]["paths"]["datasets"]["south"]
    with pytest.raises(RecipeError, match=r"needs how\.paths\.datasets\.south\.table"):
        parse_recipe(data)


def test_pseudonyms_are_all_that_leaves_the_manifest(folder: Path, tmp_path: Path) -> None:
    chosen = recipe(folder, privacy={"hash_ids": True})
    made = run_recipe(chosen, str(tmp_path))
    plain = run_stage(recipe(folder), str(folder / "run"), "manifest").table()
    for stage in made["stages"]:
        artifact = open_artifact(str(tmp_path / stage["artifact"]))
        for part in artifact.parts:
            table = artifact.part(part.shard)
            text = json.dumps(
                table.drop_columns([c for c in table.column_names if c == "uri"]).to_pylist(), default=str
            )
            assert "i0007" not in text and "/p3" not in text
            if stage["name"] == "manifest":
                assert table["split"].to_pylist() == plain["split"].to_pylist()[part.shard * 64 :][: part.rows]
    texts = [p.read_text() for p in tmp_path.rglob("*") if p.suffix in (".json", ".html")]
    key = (tmp_path / "id-key").read_text()
    assert len(texts) > 5 and not any("i0007" in text or key in text for text in texts)
    assert {k: v for k, v in made["sae"].items()}.keys() == {"r2", "fvu", "l0", "dead"}


def test_ray_and_a_plain_loop_draw_and_compare_two_hospitals_alike(ray_cluster: None, tmp_path: Path) -> None:
    data = yaml.safe_load(find_recipe("phantom-hospitals").read_text())
    for dataset in data["what"]["datasets"]:
        dataset["patients"] = 20
    found = {}
    for engine in ("loop", "ray"):
        data["how"]["engine"] = engine
        run_stage(parse_recipe(data), str(tmp_path / engine), "duplicates")
        files = [p for p in (tmp_path / engine).rglob("*") if p.suffix in (".parquet", ".png")]
        found[engine] = {str(p.relative_to(tmp_path / engine)): p.read_bytes() for p in files}
    assert len(found["loop"]) > 40 and found["loop"] == found["ray"]
