"""Volumes: the same slices however the file stores them."""

from typing import Any

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medsae_ray.core.images.nifti import PLANES, Volume, header_shape
from medsae_ray.errors import ImageError
from tests.support.medical import nifti

VOXELS = np.random.default_rng(0).integers(-1000, 1000, (7, 6, 5)).astype(np.int16)
"""Along Right, Anterior, Superior."""


def image(data: bytes, plane: str, index: int, window: str = "-1000:1000", **options: Any) -> np.ndarray:
    return np.asarray(Volume(data, **options).image(plane, index, window, 10**6))


def as_grey(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * (values + 1000.0) / 2000)


@pytest.mark.parametrize(
    ("plane", "index", "expected"),
    [
        ("axial", 2, VOXELS[::-1, ::-1, 2].T),
        ("coronal", 3, VOXELS[::-1, 3, ::-1].T),
        ("sagittal", 4, VOXELS[4, ::-1, ::-1].T),
    ],
)
def test_slices_are_shown_as_a_radiologist_sees_them(plane: str, index: int, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(image(nifti(VOXELS), plane, index), as_grey(expected))


@given(st.permutations(range(3)), st.tuples(*[st.sampled_from((1, -1))] * 3), st.floats(-0.4, 0.4), st.integers(0, 4))
def test_the_order_of_the_axes_and_a_tilt_do_not_matter(
    order: list[int], signs: tuple[int, ...], tilt: float, index: int
) -> None:
    stored = nibabel.orientations.apply_orientation(VOXELS, np.array(list(zip(order, signs, strict=True))))
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for axis, (to, sign) in enumerate(zip(order, signs, strict=True)):
        affine[axis, to] = sign
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    data = nifti(np.ascontiguousarray(stored), turn @ affine)
    for plane in PLANES:
        np.testing.assert_array_equal(image(data, plane, index), image(nifti(VOXELS), plane, index))


def test_canonical_orientation_is_nibabels() -> None:
    affine = np.diag([-1.0, 2.0, 3.0, 1.0])[[1, 0, 2, 3]]
    stored = nibabel.Nifti1Image(VOXELS, affine)
    expected = nibabel.as_closest_canonical(stored)
    found = Volume(nifti(VOXELS, affine))
    np.testing.assert_array_equal(found.voxels_XYZ, np.asarray(expected.dataobj))
    assert found.shape.canonical == expected.shape and found.shape.spacing == tuple(expected.header.get_zooms())


def test_pixels_are_made_square() -> None:
    data = nifti(VOXELS, np.diag([1.0, 1.0, 4.0, 1.0]))
    assert image(data, "axial", 0).shape == (6, 7)
    assert image(data, "coronal", 0).shape == (20, 7) and image(data, "sagittal", 0).shape == (20, 6)
    with pytest.raises(ImageError, match="too_large"):
        image(nifti(VOXELS, np.diag([1.0, 1.0, 1e6, 1.0])), "coronal", 0)


def test_values_are_scaled_before_the_window() -> None:
    scaled = nifti(VOXELS, slope=0.5, intercept=100)
    wanted = np.rint(255 * ((VOXELS[::-1, ::-1, 1].T * 0.5 + 100 - 0) / 300).clip(0, 1))
    np.testing.assert_array_equal(image(scaled, "axial", 1, "0:300"), wanted)


def test_percentiles_are_those_of_voxels_above_zero() -> None:
    voxels = np.zeros((10, 10, 10), np.float32)
    voxels[2:8, 2:8, 2:8] = np.linspace(1, 500, 216).reshape(6, 6, 6)
    low, high = np.percentile(voxels[voxels > 0], (1, 99))
    expected = np.rint(255 * ((voxels[::-1, ::-1, 4].T.astype(float) - low) / (high - low)).clip(0, 1))
    np.testing.assert_array_equal(image(nifti(voxels), "axial", 4, "p1:99"), expected)


def test_only_slices_with_a_voxel_that_is_no_number_are_lost() -> None:
    voxels = VOXELS.astype(np.float32)
    voxels[3, 2, 1] = np.nan
    with pytest.raises(ImageError, match="not_finite"):
        image(nifti(voxels), "axial", 1)
    assert image(nifti(voxels), "axial", 2).shape == (6, 7)


def test_presence_is_told_for_each_slice_of_each_plane() -> None:
    mask = np.zeros((7, 6, 5), np.uint8)
    mask[1:3, 4, 2] = 1
    found = Volume(nifti(mask)).present()
    assert {p: np.flatnonzero(v).tolist() for p, v in found.items()} == {
        "axial": [2],
        "coronal": [4],
        "sagittal": [1, 2],
    }


def slices(data: bytes) -> list[int]:
    return [int(index) for index in np.flatnonzero(Volume(data).present()["axial"])]


@pytest.mark.parametrize("background", [0.0, -0.0, 1e-9, -1e-6, 0.2, np.nan, np.inf])
@pytest.mark.parametrize("organ", [1.0, 255.0, 0.6, -1.0])
def test_only_voxels_that_are_of_an_organ_count_as_one(background: float, organ: float) -> None:
    mask = np.full((7, 6, 5), background, np.float32)
    mask[2:4, 2:4, 2] = organ
    assert slices(nifti(mask)) == [2]
    assert slices(nifti(np.full((7, 6, 5), background, np.float64))) == []


def test_a_mask_is_scaled_before_it_is_looked_at() -> None:
    mask = np.zeros((7, 6, 5), np.uint8)
    mask[1, 1, 3] = 255
    mask[2, 2, 1] = 3
    assert slices(nifti(mask, slope=1 / 255)) == [3]
    assert slices(nifti(mask)) == [1, 3]


def changed(affine: np.ndarray | None = None, voxels: np.ndarray = VOXELS, **fields: Any) -> bytes:
    """A volume that is placed by its qform alone, with other values in its header; name_n is item n of one."""
    image = nibabel.Nifti1Image(voxels, np.eye(4) if affine is None else affine)
    image.header.set_qform(image.affine, 1)
    data = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    header["sform_code"] = 0
    for name, value in fields.items():
        field, _, item = name.rpartition("_") if name[-1].isdigit() else (name, "", "")
        if item:
            header[field][int(item)] = value
        else:
            header[field] = value
    data[:348] = header.binaryblock
    return bytes(data)


@pytest.mark.parametrize(
    "fields",
    [{}, {"pixdim_0": 0}, {"pixdim_0": np.nan}, {"pixdim_0": 7}, {"pixdim_3": -3}, {"pixdim_0": 0, "pixdim_1": -2}],
)
def test_sizes_of_voxels_count_without_sign_and_a_missing_handedness_is_one(fields: dict[str, float]) -> None:
    found = Volume(changed(np.diag([2.0, 2.0, 3.0, 1.0]), **fields))
    assert found.shape.spacing == (2, 2, 3)
    np.testing.assert_array_equal(found.voxels_XYZ, VOXELS)


def test_a_negative_handedness_turns_the_third_axis() -> None:
    found = Volume(changed(pixdim_0=-1))
    np.testing.assert_array_equal(found.voxels_XYZ, VOXELS[:, :, ::-1])


@pytest.mark.parametrize("size", [0, np.nan, np.inf])
def test_a_size_that_is_none_is_one_millimetre(size: float) -> None:
    assert Volume(changed(np.diag([2.0, 2.0, 3.0, 1.0]), pixdim_3=size)).shape.spacing == (2, 2, 1)
    assert Volume(changed(qform_code=0, pixdim_3=size)).shape.spacing == (1, 1, 1)


@pytest.mark.parametrize(
    ("slope", "intercept", "scale"),
    [(0, 5, (1, 0)), (np.nan, 5, (1, 0)), (np.inf, 5, (1, 0)), (2, np.nan, (2, 0)), (2, 5, (2, 5)), (-1, 0, (-1, 0))],
)
def test_a_scale_that_is_none_is_left_out(slope: float, intercept: float, scale: tuple[float, float]) -> None:
    found = Volume(changed(scl_slope=slope, scl_inter=intercept)).shape
    assert (found.slope, found.intercept) == scale


NO_MATRIX = {"sform_code": 1, "srow_x_0": 0}


@pytest.mark.parametrize("fields", [NO_MATRIX, {"sform_code": 2, "srow_y_1": np.nan}, {"qform_code": 0, **NO_MATRIX}])
def test_a_matrix_that_cannot_be_inverted_is_not_there(fields: dict[str, float]) -> None:
    """So that the qform counts, or without one the sizes, with which nibabel takes the first axis to run leftwards."""
    found = Volume(changed(np.diag([2.0, 2.0, 3.0, 1.0]), **fields))
    assert found.shape.spacing == (2, 2, 3)
    np.testing.assert_array_equal(found.voxels_XYZ, VOXELS if "qform_code" not in fields else VOXELS[::-1])


@pytest.mark.parametrize("length", [1.0, 1 + 1e-6, 1.001])
def test_a_rotation_longer_than_one_is_brought_to_one(length: float) -> None:
    turn = changed(quatern_b=0, quatern_c=0.6 * length, quatern_d=0.8 * length)
    right = changed(quatern_b=0, quatern_c=0.6 - 1e-7, quatern_d=0.8 - 1e-7)
    np.testing.assert_array_equal(Volume(turn).voxels_XYZ, Volume(right).voxels_XYZ)


@pytest.mark.parametrize("fields", [{"vox_offset": 0}, {"vox_offset": np.nan}, {"dim_0": 4, "dim_4": 0}])
def test_what_a_header_leaves_open_is_read_as_it_is_mostly_meant(fields: dict[str, float]) -> None:
    np.testing.assert_array_equal(Volume(changed(**fields)).voxels_XYZ, VOXELS)


def test_a_volume_beyond_the_limit_is_refused_by_its_header() -> None:
    with pytest.raises(ImageError, match="too_large"):
        header_shape(nifti(VOXELS), max_voxels=100)
    with pytest.raises(ImageError, match="too_large"):
        Volume(nifti(VOXELS.astype(np.float64)), max_voxels=VOXELS.size)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"noise" * 100, "not_an_image"),
        (nifti(VOXELS)[:-50], "truncated"),
        (nifti(VOXELS)[:20], "truncated"),
    ],
)
def test_what_is_no_volume_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(ImageError) as error:
        Volume(data)
    assert error.value.reason == reason
