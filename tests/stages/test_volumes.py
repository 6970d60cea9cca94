"""Stage `volumes`: scans that the run draws, and the manifest, the rows and the report that come of them."""

from pathlib import Path
from typing import Any

import nibabel
import pytest

from medsae_ray.config import Paths, Recipe, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.datasets.rows import to_manifest
from medsae_ray.core.datasets.totalsegmentator import TotalSegmentatorDataset
from medsae_ray.core.phantom import TRAINING_SEEDS
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.errors import DatasetError, RecipeError
from medsae_ray.pipeline import run_recipe, run_stage

SCANS = 6
CUT = {"every": 9, "planes": ["axial", "sagittal"]}


def recipe(**what: Any) -> Recipe:
    dataset = {"kind": "phantom-volumes", "scans": SCANS, "seed": 4, **CUT}
    sae = {"architecture": "batch_topk", "width": 24, "k": 4, "epochs": 4, "batch_size": 32, "lr": 1e-3}
    made = {"dataset": dataset, "encoder": {"kind": "medclip-vit"}, "sae": sae, "features": {"permutations": 2}, **what}
    how = {"engine": "loop", "paths": {"weights": "builtin:phantom-volumes-encoder"}}
    return parse_recipe({"name": "t", "what": made, "how": how})


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def volumes(root: Path) -> Artifact:
    return run_stage(recipe(), str(root), "volumes")


def test_the_folder_is_one_that_totalsegmentators_reader_takes(root: Path, volumes: Artifact) -> None:
    folder = root / volumes.name
    manifest = run_stage(recipe(), str(root), "manifest").table()
    dataset = TotalSegmentatorDataset(kind="totalsegmentator", name="phantom-volumes", **CUT)
    read = to_manifest(
        dataset.rows(Paths(images=str(folder))), {"sae": 0.6, "naming": 0.2, "detection": 0.2}, "medsae", 512
    )
    assert manifest.drop_columns("uri").equals(read.drop_columns("uri"))
    assert manifest["uri"].to_pylist() == [f"{volumes.name}/{uri}" for uri in read["uri"].to_pylist()]
    assert manifest.num_rows > 50 and len(set(manifest["patient_id"].to_pylist())) == SCANS
    assert volumes.record.rows == SCANS * (1 + len(ORGANS))


def test_a_scan_that_was_drawn_by_the_run_opens_elsewhere(root: Path, volumes: Artifact) -> None:
    scan = next((root / volumes.name / "s0001").glob("*.nii.gz"))
    masks = sorted((scan.parent / "segmentations").iterdir())
    assert [mask.name.removesuffix(".nii.gz") for mask in masks] == list(ORGANS)
    assert {nibabel.load(mask).shape for mask in masks} == {nibabel.load(scan).shape}


def test_a_stopped_drawing_continues_with_the_missing_parts(tmp_path: Path, root: Path, volumes: Artifact) -> None:
    whole = run_stage(recipe(), str(tmp_path), "volumes")
    folder = tmp_path / whole.name
    lost = folder / "s0005" / "segmentations" / "liver.nii.gz"
    kept = folder / "part-00000.parquet"
    before, when = lost.read_bytes(), kept.stat().st_mtime_ns
    for gone in (folder / "record.json", folder / "part-00001.parquet", lost):
        gone.unlink()
    again = run_stage(recipe(), str(tmp_path), "volumes")
    assert again.record.run["parts_reused"] == 1 and kept.stat().st_mtime_ns == when
    assert lost.read_bytes() == before and again.table().equals(volumes.table())


def test_two_datasets_have_folders_of_their_own(tmp_path: Path) -> None:
    datasets = [{"kind": "phantom-volumes", "name": n, "scans": 4, "seed": s, **CUT} for n, s in (("x", 4), ("y", 5))]
    two = recipe(dataset=None, datasets=datasets)
    manifest = run_stage(two, str(tmp_path), "manifest").table()
    folder = next(tmp_path.glob("volumes-*"))
    assert (folder / "x" / "meta.csv").is_file() and (folder / "y" / "s0001" / "segmentations").is_dir()
    volumes = {uri.partition("#")[0].partition("/")[2] for uri in manifest["uri"].to_pylist()}
    assert len(volumes) == 8 and all((tmp_path / volume).is_file() for volume in volumes)
    assert set(manifest["dataset"].to_pylist()) == {"x", "y"}


def test_scans_that_the_shipped_encoder_was_trained_on_are_refused(tmp_path: Path) -> None:
    seed = {"dataset": {"kind": "phantom-volumes", "seed": TRAINING_SEEDS.start}}
    with pytest.raises(RecipeError, match="trained on patients"):
        run_stage(recipe(**seed), str(tmp_path), "volumes")


def test_a_recipe_of_other_data_has_no_such_stage(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="phantom-volumes"):
        run_stage(recipe(dataset={"kind": "phantom", "patients": 20}), str(tmp_path), "volumes")
    with pytest.raises(DatasetError, match="a run draws its scans"):
        recipe().what.sources[0].rows(Paths())


def test_a_small_run_goes_to_its_report(root: Path, volumes: Artifact) -> None:
    summary = run_recipe(recipe(), str(root))
    assert set(ORGANS) <= set(summary["findings"])
    page = (root / "report.html").read_text()
    assert "Synthetic phantom scans: toys for trying the software" in page
    assert {stage["name"] for stage in summary["stages"]} >= {"volumes", "recovery", "monosemanticity", "retrieval"}
