"""TotalSegmentator's layout from disk to manifest to embeddings."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medsae_ray.config import Paths, parse_recipe
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.datasets.rows import Rows
from medsae_ray.core.datasets.totalsegmentator import TotalSegmentatorDataset
from medsae_ray.core.datasets.windows import ct_window
from medsae_ray.core.images import reader
from medsae_ray.core.images.nifti import Volume
from medsae_ray.core.images.reader import split_slice
from medsae_ray.errors import DatasetError
from medsae_ray.pipeline import run_stage
from tests.support.medical import nifti, segmentator_folder

KIND = "totalsegmentator"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return segmentator_folder(tmp_path_factory.mktemp("segmentator"))


def rows(folder: Path, **changes: Any) -> Rows:
    return TotalSegmentatorDataset(**{"kind": KIND, **changes}).rows(Paths(images=str(folder)))


def stage(folder: Path, root: Path, name: str, shard_rows: int = 64, **what: Any) -> Artifact:
    dataset, encoder = {"kind": KIND}, {"kind": "medclip-vit"}
    paths = {"images": str(folder), "weights": "builtin:phantom-encoder"}
    made = {"dataset": dataset, "shard_rows": shard_rows, "encoder": encoder, **what}
    return run_stage(
        parse_recipe({"name": "t", "what": made, "how": {"engine": "loop", "paths": paths}}), str(root), name
    )


def one_scan(folder: Path, masks: dict[str, np.ndarray], meta: str = "s1;50;f;A;ct thorax", **options: Any) -> Path:
    """A scan of 6 x 5 x 4 voxels."""
    (folder / "s1" / "segmentations").mkdir(parents=True)
    (folder / "s1" / options.get("name", "ct.nii.gz")).write_bytes(nifti(np.ones((6, 5, 4), np.int16)))
    for organ, mask in masks.items():
        (folder / "s1" / "segmentations" / f"{organ}.nii.gz").write_bytes(nifti(mask, options.get("affine")))
    (folder / "meta.csv").write_text(f"image_id;age;gender;institute;study_type\n{meta}\n")
    return folder


def box(*slices: slice) -> np.ndarray:
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[slices] = 1
    return mask


def test_a_folder_goes_to_embeddings(folder: Path, tmp_path: Path) -> None:
    manifest, embeddings = (stage(folder, tmp_path, name) for name in ("manifest", "embeddings"))
    table = manifest.table()
    assert embeddings.record.rows == table.num_rows > 100 and embeddings.record.not_ok == {}
    splits = {(row["patient_id"], row["split"]) for row in table.to_pylist()}
    assert len(splits) == len({patient for patient, _ in splits}) == 10
    x = embeddings.table()["x"].combine_chunks().flatten().to_numpy().reshape(table.num_rows, -1)
    assert np.isfinite(x).all() and len(np.unique(x.round(4), axis=0)) > table.num_rows * 0.9


def test_a_shard_reads_a_volume_once_for_all_planes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[int] = []

    class Counted(Volume):
        def __init__(self, data: bytes, *limits: int) -> None:
            decoded.append(len(data))
            super().__init__(data, *limits)

    monkeypatch.setattr(reader, "Volume", Counted)
    embeddings, manifest = (stage(folder, tmp_path, name, 40) for name in ("embeddings", "manifest"))
    files = {(row["shard"], row["uri"].split("#")[0]) for row in manifest.table().to_pylist()}
    assert len(decoded) == len(files) < embeddings.record.rows / 5
    assert any(sum(file == other for _, other in files) > 1 for _, file in files)  # a scan that spans two shards


def test_labels_say_which_slices_show_an_organ(tmp_path: Path) -> None:
    masks = {"liver": box(slice(1, 4), slice(2, 3), slice(1, 2)), "heart": box(slice(4, 5), slice(2, 4), slice(2, 3))}
    found = rows(one_scan(tmp_path, masks))
    shown = {
        uri.partition("#")[2].partition("&")[0]: (liver, heart)
        for uri, liver, heart in zip(found.uri, *(found.labels[o].to_pylist() for o in ("liver", "heart")), strict=True)
    }
    assert shown == {
        "axial=1": (1, 0),
        "axial=2": (0, 1),
        "coronal=2": (1, 1),
        "coronal=3": (0, 1),
        "sagittal=1": (1, 0),
        "sagittal=2": (1, 0),
        "sagittal=3": (1, 0),
        "sagittal=4": (0, 1),
    }


def test_a_mask_stored_in_another_orientation_fits(tmp_path: Path) -> None:
    mask = box(slice(1, 2), slice(0, 1), slice(3, 4))
    plain = rows(one_scan(tmp_path / "a", {"liver": mask}))
    turned = rows(one_scan(tmp_path / "b", {"liver": mask[::-1]}, affine=np.diag([-1.0, 1, 1, 1])))
    assert plain.uri == turned.uri and plain.labels == turned.labels


@pytest.mark.parametrize("axes", ["PIR", "LSA"])
def test_scans_stored_along_other_axes_have_the_same_labels_and_embeddings(tmp_path: Path, axes: str) -> None:
    """Files of a rotated or mirrored affine, masks and scans alike."""
    straight, turned = (segmentator_folder(tmp_path / name, 4) for name in ("straight", "turned"))
    orientations = nibabel.orientations.axcodes2ornt
    for file in turned.rglob("*.nii.gz"):
        stored = nibabel.load(file)
        nibabel.save(
            stored.as_reoriented(nibabel.orientations.ornt_transform(orientations("RAS"), orientations(axes))), file
        )
    found = [
        [stage(folder, tmp_path / f"{folder.name}-root", name).table() for name in ("manifest", "embeddings")]
        for folder in (straight, turned)
    ]
    assert found[0][0].num_rows > 40 and found[0][0] == found[1][0]
    x, y = (table["x"].combine_chunks().flatten().to_numpy() for _, table in found)
    np.testing.assert_allclose(x, y, rtol=0, atol=1e-5)


def test_slices_between_organs_stay_and_edges_go(tmp_path: Path) -> None:
    mask = box(slice(1, 2), slice(2, 3), slice(0, 1)) + box(slice(4, 5), slice(2, 3), slice(0, 1))
    found = rows(one_scan(tmp_path, {"liver": mask}), planes=["sagittal"])
    assert [uri.partition("sagittal=")[2][0] for uri in found.uri] == ["1", "2", "3", "4"]
    assert found.labels["liver"].to_pylist() == [1, 0, 0, 1]
    assert len(rows(tmp_path, planes=["sagittal"], every=2).uri) == 2


def test_an_organ_without_a_mask_is_not_annotated(folder: Path, tmp_path: Path) -> None:
    copy = segmentator_folder(tmp_path / "copy")
    (copy / "s0003" / "segmentations" / "liver.nii.gz").unlink()
    (copy / "s0004" / "segmentations" / "liver.nii.gz").write_bytes(nifti(np.ones((3, 3, 3), np.uint8)))
    (copy / "s0005" / "segmentations" / "liver.nii.gz").write_bytes(b"\x1f\x8b noise")
    found = rows(copy)
    unknown = {p for p, y in zip(found.patient_id, found.labels["liver"].to_pylist(), strict=True) if y is None}
    assert unknown == {"s0003", "s0004", "s0005"} and found.labels["spleen"].null_count == 0
    assert found.notes["passed_over"] == {"mask mask_of_other_size": 1, "mask truncated": 1}


def test_a_scan_without_any_mask_keeps_all_slices(tmp_path: Path) -> None:
    copy = segmentator_folder(tmp_path / "copy", patients=2)
    for mask in (copy / "s0001" / "segmentations").iterdir():
        mask.unlink()
    found = rows(copy)
    of_scan = [y for p, y in zip(found.patient_id, found.labels["liver"].to_pylist(), strict=True) if p == "s0001"]
    assert of_scan == [None] * (12 + 10 + 8)


def test_windows_go_by_study_type_and_modality(tmp_path: Path) -> None:
    mask = {"liver": box(slice(0, 1), slice(0, 1), slice(0, 1))}
    assert rows(one_scan(tmp_path / "a", mask)).uri[0] == "s1/ct.nii.gz#axial=0&window=-900:500"
    assert rows(tmp_path / "a", ct_window=[-160.0, 240.0]).uri[0].endswith("window=-160:240")
    for window in ([-1e6, 1234567.5], [0.00001, 2e10]):
        uri = rows(tmp_path / "a", ct_window=window).uri[0]
        assert [float(end) for end in split_slice(uri)[1].window.split(":")] == window
    mri = one_scan(tmp_path / "b", mask, name="mri.nii.gz")
    assert (
        rows(mri).uri[0] == "s1/mri.nii.gz#axial=0&window=p1:99" and rows(mri).metadata["modality"][0].as_py() == "MR"
    )


@pytest.mark.parametrize(
    ("study", "window"),
    [
        ("ct angiography neck", (-350, 550)),
        ("ct angiography neck-thx-abd-pelvis-leg", (-380, 620)),
        ("CT  Thorax-Abdomen-Pelvis ", (-800, 600)),
        ("ct abdomen-pelvis", (-450, 550)),
        ("ct polytrauma head", (-160, 240)),
        ("ct headbasis-felsenleg", (-480, 720)),
        ("ct pelvis", (-620, 780)),
        ("ct of something else", (-750, 650)),
        (None, (-750, 650)),
    ],
)
def test_study_types_have_windows(study: str | None, window: tuple[int, int]) -> None:
    assert ct_window(study) == window


def test_institutions_can_be_held_out(folder: Path, tmp_path: Path) -> None:
    split = {"held_out_by": "institute", "held_out": ["A", "D", "E"]}
    table = stage(folder, tmp_path, "manifest", split=split).table().to_pylist()
    assert {row["m_institute"] for row in table if row["split"] == "detection"} == {"A", "D", "E"}
    assert {row["m_institute"] for row in table if row["split"] != "detection"} == {"B", "C"}
    with pytest.raises(DatasetError, match="no image has institute 'Z'"):
        stage(folder, tmp_path, "manifest", split={**split, "held_out": ["A", "Z"]})
    with pytest.raises(DatasetError, match="held_out_by is 'clinic'; the dataset's metadata are plane"):
        stage(folder, tmp_path, "manifest", split={**split, "held_out_by": "clinic"})


def test_the_identity_goes_with_names_and_sizes_not_the_place(folder: Path, tmp_path: Path) -> None:
    def identity(place: Path) -> dict[str, Any]:
        return TotalSegmentatorDataset(kind=KIND).identity(Paths(images=str(place)))

    copy = segmentator_folder(tmp_path / "copy")
    assert identity(copy) == identity(folder)
    (copy / "s0001" / "segmentations" / "liver.nii.gz").write_bytes(b"")
    assert identity(copy) != identity(folder)


def test_a_folder_that_is_something_else_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"meta\.csv cannot be read"):
        rows(tmp_path)
    (tmp_path / "meta.csv").write_text("image_id;age\ns1;4\n")
    with pytest.raises(DatasetError, match="has no s0001/ct"):
        rows(tmp_path)
    with pytest.raises(DatasetError, match="has no mask of lung, spline"):
        rows(folder, organs=["spline", "liver", "lung"])
    (tmp_path / "meta.csv").write_text("age\n4\n")
    with pytest.raises(DatasetError, match="no column image_id; no name of its 1 columns is like it"):
        rows(tmp_path)
