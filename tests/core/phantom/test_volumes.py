"""Made-up CT and MRI scans: their layout and geometry, and what sex, age, institute and pathology do to them."""

import gzip
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray

from medsae_ray.core.datasets.totalsegmentator import read_meta
from medsae_ray.core.phantom.volumes.body import OF_ORGAN, ORGANS, Tissue, build
from medsae_ray.core.phantom.volumes.people import CT, HEALTHY, HELD_OUT, INSTITUTES, MR, Person, meta_csv, person
from medsae_ray.core.phantom.volumes.scan import SPACING, Scan, draw, frame_of

INSTITUTE = {institute.name: institute for institute in INSTITUTES}
STUDY = {study.name: study for study in (*CT, *MR)}


def someone(number: int = 1, study: str = "ct polytrauma", **changes: Any) -> Person:
    """A healthy man of 50 at institute B, unless changed."""
    usual = {"sex": "m", "age": 50, "institute": INSTITUTE["B"], "pathology": HEALTHY}
    modality = "MR" if study.startswith("mr") else "CT"
    return person(3, number)._replace(study=STUDY[study], modality=modality, **(usual | changes))


@pytest.fixture(scope="module")
def body() -> Scan:
    return draw(someone())


def middle(scan: Scan, organ: str) -> NDArray[np.float64]:
    """An organ's centre of mass in millimetres to the Right, Anterior and Superior."""
    at = np.argwhere(scan.mask(organ)).mean(0)
    return scan.affine[:3, :3] @ at + scan.affine[:3, 3]


def median(scan: Scan, organ: str) -> float:
    return float(np.median(scan.volume[scan.mask(organ) > 0]))


def spread(values: NDArray[np.int16]) -> float:
    """The distance of the quartiles."""
    low, high = np.percentile(values, (25, 75))
    return float(high - low)


@pytest.mark.parametrize(("study", "file", "axes"), [("ct abdomen", "ct", "RAS"), ("mr abdomen", "mri", "LPS")])
def test_files_have_the_layout_and_one_geometry(study: str, file: str, axes: str) -> None:
    scan = draw(someone(study=study))
    files = dict(scan.files())
    assert next(iter(files)) == f"s0001/{file}.nii.gz"
    assert list(files)[1:] == [f"s0001/segmentations/{organ}.nii.gz" for organ in ORGANS]
    images = {name: nibabel.Nifti1Image.from_bytes(gzip.decompress(data)) for name, data in files.items()}
    volume = images[f"s0001/{file}.nii.gz"]
    assert volume.get_data_dtype() == np.int16 and volume.header.get_zooms() == (SPACING,) * 3
    assert "".join(nibabel.aff2axcodes(volume.affine)) == axes
    assert np.array_equal(np.asarray(volume.dataobj), scan.volume)
    for organ in ORGANS:
        mask = images[f"s0001/segmentations/{organ}.nii.gz"]
        assert np.array_equal(mask.affine, volume.affine)
        assert np.array_equal(np.asarray(mask.dataobj), scan.organ == 1 + ORGANS.index(organ))


def test_equal_people_give_equal_bytes_and_others_do_not() -> None:
    one, same, other = (dict(draw(someone(n, "ct head")).files()) for n in (1, 1, 2))
    assert one == same and one["s0001/ct.nii.gz"] != other["s0002/ct.nii.gz"]


def test_a_whole_body_has_all_organs_of_a_man_each_with_some_voxels(body: Scan) -> None:
    sizes = np.bincount(body.organ.ravel(), minlength=1 + len(ORGANS))[1:]
    assert len(ORGANS) >= 25 and dict(zip(ORGANS, sizes, strict=True))["liver"] > 3000
    assert sizes.min() >= 8, dict(zip(ORGANS, sizes, strict=True))


@pytest.mark.parametrize("number", range(4))
def test_organs_are_inside_the_body(number: int) -> None:
    who = person(5, number)
    scene = build(who, frame_of(who))
    hollow = [name for name, tissue in OF_ORGAN.items() if tissue == Tissue.AIR] + ["stomach", "colon"]
    with_air = {ORGANS[label - 1] for label in np.unique(scene.organ[(scene.organ > 0) & (scene.tissue == Tissue.AIR)])}
    assert with_air <= set(hollow)


def test_organs_lie_where_they_belong(body: Scan) -> None:
    at = {organ: middle(body, organ) for organ in ORGANS}
    assert at["liver"][0] > 40 > -60 > at["spleen"][0] and at["heart"][0] < 0
    assert all(at[f"{organ}_right"][0] > at[f"{organ}_left"][0] for organ in ("kidney", "hip", "femur", "humerus"))
    order = ("brain", "thyroid_gland", "heart", "liver", "small_bowel", "urinary_bladder", "prostate")
    heights = [float(at[organ][2]) for organ in order]
    assert heights == sorted(heights, reverse=True)
    assert at["kidney_right"][2] < at["kidney_left"][2]
    assert at["spinal_cord"][1] < at["aorta"][1] < at["sternum"][1]


def test_tissues_have_their_hounsfield_units(body: Scan) -> None:
    ranges = {"liver": (80, 130), "lung_upper_lobe_left": (-900, -750), "brain": (20, 50), "skull": (250, 800)}
    ranges |= {"aorta": (180, 300), "urinary_bladder": (-15, 40), "trachea": (-1010, -500), "spleen": (90, 150)}
    found = {organ: median(body, organ) for organ in ranges}
    assert all(low <= found[organ] <= high for organ, (low, high) in ranges.items()), found
    assert body.volume.min() >= -1024 and np.median(body.volume[:3]) < -900


def test_the_two_weightings_of_mri_show_fluid_dark_and_bright() -> None:
    t1, t2 = (draw(someone(study="mr pelvis", institute=INSTITUTE[name])) for name in ("B", "C"))
    assert median(t1, "urinary_bladder") < median(t1, "gluteus_maximus_left")
    assert median(t2, "urinary_bladder") > 2 * median(t2, "gluteus_maximus_left")
    assert t1.volume.min() >= 0


def test_sex_and_age_show_in_the_anatomy() -> None:
    man, woman = (draw(someone(study="ct pelvis", sex=sex)) for sex in "mf")
    assert man.mask("prostate").any() and not woman.mask("prostate").any()
    young, old = (draw(someone(study="ct polytrauma", age=age)) for age in (25, 90))
    assert old.mask("aorta").sum() > 1.3 * young.mask("aorta").sum()
    assert old.mask("kidney_left").sum() < young.mask("kidney_left").sum()
    assert median(old, "femur_left") < 0.9 * median(young, "femur_left")
    scenes = [build(one, frame_of(one)) for one in (young.person, old.person)]
    ventricles = [int((scene.mask("brain") & (scene.tissue == Tissue.FLUID)).sum()) for scene in scenes]
    assert ventricles[1] > 2 * ventricles[0]


def test_the_institutes_that_recipes_hold_out_look_different() -> None:
    scans = {name: draw(someone(study="ct abdomen", institute=INSTITUTE[name])) for name in "ABDE"}
    grain = {name: spread(scan.volume[scan.mask("liver") > 0]) for name, scan in scans.items()}
    assert set(HELD_OUT) == {"A", "D", "E"} and grain["A"] > 1.8 * grain["B"]
    assert scans["D"].volume.shape[0] < scans["B"].volume.shape[0] < scans["A"].volume.shape[0]
    assert median(scans["E"], "kidney_left") > 1.2 * median(scans["B"], "kidney_left")


@pytest.mark.parametrize(
    ("pathology", "study", "organ"),
    [
        ("tumor", "ct abdomen", "liver"),
        ("vascular", "ct abdomen-pelvis", "aorta"),
        ("inflammation", "ct thorax", "lung_lower_lobe_left"),
        ("bleeding", "ct head", "brain"),
    ],
)
def test_a_pathology_changes_the_organ_that_it_is_in(pathology: str, study: str, organ: str) -> None:
    changed = 0
    for number in range(1, 4):
        well, ill = (draw(someone(number, study, pathology=name)) for name in (HEALTHY, pathology))
        if pathology != "vascular":
            assert np.array_equal(well.mask(organ), ill.mask(organ))
        difference = np.abs(ill.volume.astype(int) - well.volume)[ill.mask(organ) > 0]
        changed += int((difference > 25).sum())
    assert changed > 60


def test_meta_has_totalsegmentators_columns_and_every_kind_of_person() -> None:
    lines = meta_csv(7, 200).decode().splitlines()
    columns = "image_id;age;gender;institute;study_type;split;manufacturer;scanner_model;kvp;pathology"
    assert lines[0] == columns and len(lines) == 201
    people = read_meta("\n".join(lines).encode(), "meta.csv")
    assert {about["institute"] for about in people.values()} == set(INSTITUTE)
    assert len({about["pathology"] for about in people.values()}) == 5
    assert {about["study_type"] for about in people.values()} == set(STUDY)
    assert 0.3 < np.mean([about["sex"] == "f" for about in people.values()]) < 0.6
    assert all(("kvp" in about) == about["study_type"].startswith("ct") for about in people.values())
