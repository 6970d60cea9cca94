"""Public datasets from their folders to embeddings, with the small encoder that ships with the package."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from rich.console import Console

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact, verify
from medsae_ray.core.artifacts.store import Store
from medsae_ray.pipeline import STAGES, run_stage
from medsae_ray.runtime.run import Run
from tests.core.datasets import layouts
from tests.support.small import recipe_data as small_recipe
from tests.support.small import table_dataset

KINDS = {
    "chexpert": layouts.chexpert,
    "mimic-cxr-jpg": layouts.mimic,
    "nih-cxr14": layouts.nih,
    "vindr-cxr": layouts.vindr,
}


def recipe_data(kind: str, folder: Path) -> dict[str, Any]:
    paths: dict[str, Any] = {"weights": "builtin:phantom-encoder", "table": str(KINDS[kind](folder))}
    dataset: dict[str, Any] = {"kind": kind}
    if kind == "mimic-cxr-jpg":
        paths["metadata"] = str(folder / "mimic-cxr-2.0.0-metadata.csv.gz")
    if kind == "vindr-cxr":
        paths["images"], dataset["suffix"] = str(folder / "train"), ".png"
    else:
        dataset["views"] = "all"
    what = {"dataset": dataset, "shard_rows": 16, "encoder": {"kind": "medclip-vit"}}
    return {"name": kind, "what": what, "how": {"paths": paths, "engine": "loop", "embed": {"batch_size": 16}}}


def made(kind: str, folder: Path, root: Path) -> tuple[Artifact, Artifact]:
    recipe = parse_recipe(recipe_data(kind, folder))
    return run_stage(recipe, str(root), "manifest"), run_stage(recipe, str(root), "embeddings")


@pytest.mark.parametrize("kind", KINDS)
def test_a_dataset_goes_from_disk_to_embeddings(kind: str, tmp_path: Path) -> None:
    manifest, embeddings = made(kind, tmp_path / "data", tmp_path / "run")
    assert manifest.record.rows == embeddings.record.rows == 48 and embeddings.record.not_ok == {}
    assert manifest.table(["image_id"]) == embeddings.table(["image_id"])
    assert set(manifest.table()["dataset"].to_pylist()) == {kind} and verify(manifest) == []
    assert manifest.record.metrics["patient_column"] == (kind != "vindr-cxr")


def test_the_audit_file_says_who_is_in_which_split(tmp_path: Path) -> None:
    manifest = run_stage(parse_recipe(recipe_data("chexpert", tmp_path / "data")), str(tmp_path / "run"), "manifest")
    found = json.loads(manifest.file("audit"))
    table = manifest.table()
    for split, counts in found["splits"].items():
        patients = [
            p for p, s in zip(table["patient_id"].to_pylist(), table["split"].to_pylist(), strict=True) if s == split
        ]
        assert counts == {"images": len(patients), "patients": len(set(patients))}
    assert found["overlap"] == {"sae and naming": 0, "sae and detection": 0, "naming and detection": 0}
    assert found["patients"] == 16 and found == manifest.record.metrics["audit"]


def test_missing_and_broken_images_are_counted_rows(tmp_path: Path) -> None:
    data = recipe_data("nih-cxr14", tmp_path)
    (tmp_path / "images_001/images/00000001_000.png").unlink()
    (tmp_path / "images_002/images/00000001_001.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    embeddings = run_stage(parse_recipe(data), str(tmp_path / "run"), "embeddings")
    assert embeddings.record.rows == 48 and sum(embeddings.record.not_ok.values()) == 2
    assert embeddings.record.not_ok["missing"] == 1 and embeddings.record.metrics == {"notes": {}}


def test_images_that_lie_on_their_side_are_turned_and_counted(tmp_path: Path) -> None:
    data = recipe_data("nih-cxr14", tmp_path)
    file = tmp_path / "images_001/images/00000001_000.png"
    upright = Image.open(file).copy()
    exif = Image.Exif()
    exif[274] = 6
    runs = {}
    for name, image, options in (
        ("upright", upright, {}),
        ("turned", upright.transpose(Image.Transpose.ROTATE_90), {"exif": exif}),
    ):
        image.save(file, **options)
        runs[name] = run_stage(parse_recipe(data), str(tmp_path / name), "embeddings")
    data["what"]["images"] = {"orientation": "stored"}
    runs["stored"] = run_stage(parse_recipe(data), str(tmp_path / "turned"), "embeddings")
    x = {name: run.table()["x"][0].as_py() for name, run in runs.items()}
    assert x["upright"] == x["turned"] != x["stored"]
    counts = {"exif_orientation": 1}
    assert [run.record.metrics["notes"] for run in runs.values()] == [{}, counts, counts]


@pytest.mark.parametrize(("policy", "warned"), [("ignore", True), ("zero", False)])
def test_a_label_that_is_never_absent_is_doubted(policy: str, warned: bool, tmp_path: Path) -> None:
    table = table_dataset(tmp_path, 40)
    text = table.read_text()
    table.write_text(text.replace(",0,0,", ",-1,0,").replace(",0,1,", ",-1,1,"))
    data = small_recipe(table, tmp_path / "e.onnx", engine="loop")
    data["what"]["dataset"]["uncertain"] = policy
    with Run(parse_recipe(data), Store(str(tmp_path / "run")), STAGES, Console(quiet=True)) as run:
        manifest = run.artifact("manifest")
        said = [(w.code, w.value) for w in run.warnings if w.code == "uncertain_without_absent"]
    count = manifest.table(["y_bright"])["y_bright"].to_pylist().count(-1)
    assert count and said == ([("uncertain_without_absent", count)] if warned else [])


def test_options_of_a_table_name_the_artifact_only_where_they_are_used(tmp_path: Path) -> None:
    data = small_recipe(table_dataset(tmp_path, 40), tmp_path / "e.onnx", engine="loop")
    names = []
    for options in ({}, {"values": {}, "separator": None}, {"values": {"maybe": -1}}, {"separator": ","}):
        data["what"]["dataset"] = data["what"]["dataset"] | {"values": {}, "separator": None} | options
        names.append(run_stage(parse_recipe(data), str(tmp_path / "run"), "manifest"))
    assert names[0].name == names[1].name and len({manifest.name for manifest in names}) == 3
    assert not {"values", "separator", "encoding"} & set(names[0].record.what["dataset"])


def test_what_images_were_read_with_is_a_warning(tmp_path: Path) -> None:
    data = recipe_data("nih-cxr14", tmp_path)
    file = tmp_path / "images_001/images/00000001_000.png"
    exif = Image.Exif()
    exif[274] = 6
    image = Image.open(file).copy()
    image.save(file, exif=exif)
    said = {}
    for orientation in ("exif", "stored"):
        data["what"]["images"] = {"orientation": orientation}
        with Run(parse_recipe(data), Store(str(tmp_path / "run")), STAGES, Console(quiet=True)) as run:
            run.artifact("embeddings")
            said[orientation] = [w for w in run.warnings if w.code == "exif_orientation"]
    assert [w.value for w in (*said["exif"], *said["stored"])] == [1, 1]
    assert said["exif"][0].message.endswith("and were") and said["stored"][0].message.endswith("as they lie")
