"""Stage `organs`: TotalSegmentator's masks over the cluster, and the manifest that joins them."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pyarrow as pa
import pytest
from nibabel.filebasedimages import ImageFileError

from medsae_ray.config import Paths, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact, open_artifact
from medsae_ray.core.datasets.combine import combine
from medsae_ray.core.datasets.organs import OrganWork
from medsae_ray.core.datasets.rows import to_manifest
from medsae_ray.core.datasets.totalsegmentator import TotalSegmentatorDataset
from medsae_ray.errors import DatasetError, RecipeError, ShardError
from medsae_ray.pipeline import run_stage
from tests.support.medical import nifti, segmentator_folder
from tests.support.small import recipe_of

KIND = "totalsegmentator"
SHARES = {"sae": 0.7, "naming": 0.15, "detection": 0.15}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten scans in two shards, with all that can be wrong with them."""
    made = segmentator_folder(tmp_path_factory.mktemp("segmentator"))
    masks = made / "s0001" / "segmentations"
    (masks / "liver.nii.gz").write_bytes((masks / "liver.nii.gz").read_bytes()[:60])
    (masks / "spleen.nii.gz").write_bytes(nifti(np.ones((3, 3, 3), np.uint8)))
    (made / "s0002" / "ct.nii.gz").write_bytes(b"no volume")
    (made / "s0003" / "segmentations" / "spleen.nii.gz").unlink()
    (made / "s0004" / "segmentations" / "liver.nii.gz").write_bytes(nifti(np.zeros((12, 10, 8), np.uint8)))
    (made / "s0004" / "segmentations" / "spleen.nii.gz").unlink()
    for mask in (made / "s0009" / "segmentations").iterdir():
        mask.unlink()
    with (made / "meta.csv").open("a") as meta:
        meta.write("\ns0099;50;f;A;ct thorax;train;siemens;X;120;none")
    return made


def stage(folder: Path, root: Path, name: str, engine: str = "loop", **dataset: Any) -> Artifact:
    what = {"dataset": {"kind": KIND, **dataset}, "encoder": {"kind": "medclip-vit"}}
    paths = {"images": str(folder), "weights": "builtin:phantom-encoder"}
    recipe = parse_recipe({"name": "t", "what": what, "how": {"engine": engine, "paths": paths}})
    return run_stage(recipe, str(root), name)


def plain(folder: Path, organs: tuple[str, ...] = ("liver", "spleen")) -> dict[str, dict[str, int | None]]:
    """Image -> organ -> whether it is there, straight from the arrays."""
    found: dict[str, dict[str, int | None]] = {}
    for scan in sorted(folder.glob("s*/ct.nii.gz")):
        masks = {}
        for organ in organs:
            try:
                voxels = np.asarray(nibabel.load(scan.parent / "segmentations" / f"{organ}.nii.gz").dataobj)
                masks |= {organ: voxels != 0} if voxels.shape == (12, 10, 8) else {}
            except (FileNotFoundError, ImageFileError):  # the cut one
                pass
        if scan.read_bytes() == b"no volume":
            continue
        for axis, plane in ((2, "axial"), (1, "coronal"), (0, "sagittal")):
            other = tuple(a for a in range(3) if a != axis)
            shown = {organ: mask.any(axis=other) for organ, mask in masks.items()}
            at = np.flatnonzero(np.any(list(shown.values()), axis=0)) if shown else np.arange((12, 10, 8)[axis])
            for index in range(at[0], at[-1] + 1) if len(at) else ():
                there = {organ: int(shown[organ][index]) if organ in shown else None for organ in organs}
                found[f"{scan.parent.name}/CT/{plane}/{index:04d}"] = there
    return found


def test_the_manifest_says_what_the_masks_show(folder: Path, tmp_path: Path) -> None:
    table = stage(folder, tmp_path, "manifest").table()
    rows = {row["image_id"]: {"liver": row["y_liver"], "spleen": row["y_spleen"]} for row in table.to_pylist()}
    assert rows == plain(folder) and list(rows) == list(plain(folder)) and len(rows) > 60


def test_what_was_passed_over_is_counted(folder: Path, tmp_path: Path) -> None:
    manifest = stage(folder, tmp_path, "manifest")
    assert manifest.record.metrics["notes"] == {
        "passed_over": {
            "mask mask_of_other_size": 1,
            "mask truncated": 1,
            "no_volume": 1,
            "volume no_organ": 1,
            "volume not_an_image": 1,
        },
        "scans": 9,
    }
    (organs,) = (open_artifact(str(p)) for p in tmp_path.glob("organs-*"))
    assert manifest.record.metrics["organs"] == organs.name and manifest.record.parents == {}
    assert organs.record.rows == 10 + 16 and len(organs.parts) == 2
    assert organs.record.not_ok == {"mask_of_other_size": 1, "not_an_image": 1, "truncated": 1, "unusable_volume": 2}


def test_the_cluster_a_loop_and_the_reader_make_the_same_rows(ray_cluster: None, folder: Path, tmp_path: Path) -> None:
    loop, ray = (stage(folder, tmp_path / engine, "manifest", engine) for engine in ("loop", "ray"))
    parts = [sorted((tmp_path / engine).glob("organs-*/part-*")) for engine in ("loop", "ray")]
    assert [p.name for p in parts[0]] == [p.name for p in parts[1]] and len(parts[0]) == 2
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*parts, strict=True))
    rows = TotalSegmentatorDataset(kind=KIND).rows(Paths(images=str(folder)))
    reader = to_manifest(rows, SHARES, "", 512).drop_columns(["split", "index_image"])
    assert loop.table() == ray.table() and loop.table().drop_columns(["split", "index_image"]) == reader


def test_a_stage_that_was_stopped_reads_only_what_is_missing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, read = OrganWork.prepare, []

    def stopped(work: OrganWork, shard: int) -> pa.Table:
        read.append(shard)
        if len(read) == 2:
            raise OSError("the store is away")
        return prepare(work, shard)

    monkeypatch.setattr(OrganWork, "prepare", stopped)
    with pytest.raises(ShardError, match="shard 1: OSError: the store is away"):
        stage(folder, tmp_path, "manifest")
    assert stage(folder, tmp_path, "organs").record.run["parts_reused"] == 1 and read == [0, 1, 1]


def test_settings_that_only_choose_slices_read_no_mask_again(folder: Path, tmp_path: Path) -> None:
    manifests = [stage(folder, tmp_path, "manifest", **chosen) for chosen in ({}, {"every": 3, "planes": ["axial"]})]
    assert manifests[0].name != manifests[1].name and len(list(tmp_path.glob("organs-*"))) == 1
    assert stage(folder, tmp_path, "manifest", organs=["liver"]).record.metrics["labels"] == ["liver"]
    assert len(list(tmp_path.glob("organs-*"))) == 2


def test_a_manifest_that_is_there_needs_no_masks(folder: Path, tmp_path: Path) -> None:
    first = stage(folder, tmp_path, "manifest")
    for part in tmp_path.glob("organs-*/*"):
        part.unlink()
    assert stage(folder, tmp_path, "manifest").name == first.name and not list(tmp_path.glob("organs-*/*"))


def test_several_datasets_share_one_stage(folder: Path, tmp_path: Path) -> None:
    second = segmentator_folder(tmp_path / "mri", patients=9, seed=1, name="mri.nii.gz")
    sources = [{"kind": KIND, "name": "a"}, {"kind": KIND, "name": "b", "every": 2}]
    what = {"datasets": sources, "labels": {}, "encoder": {"kind": "medclip-vit"}}
    places = {"a": {"images": str(folder)}, "b": {"images": str(second)}}
    paths = {"datasets": places, "weights": "builtin:phantom-encoder"}
    recipe = parse_recipe({"name": "t", "what": what, "how": {"engine": "loop", "paths": paths}})
    manifest = run_stage(recipe, str(tmp_path / "run"), "manifest").table()
    organs = run_stage(recipe, str(tmp_path / "run"), "organs")
    assert [about["shards"] for about in organs.record.metrics["datasets"]] == [[0, 2], [2, 4]]
    readers = [s.rows(recipe.paths_of(s)) for s in recipe.what.sources]
    alone = to_manifest(combine(readers, {}), SHARES, "", 512)
    dropped = ["split", "index_image"]
    assert manifest.drop_columns(dropped) == alone.drop_columns(dropped)


def test_a_recipe_without_masks_has_no_such_stage(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="a dataset of kind totalsegmentator"):
        run_stage(recipe_of(tmp_path), str(tmp_path), "organs")


def test_an_organ_that_no_scan_has_is_refused_before_a_mask_is_read(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="has no mask of lung"):
        stage(folder, tmp_path, "manifest", organs=["lung"])
