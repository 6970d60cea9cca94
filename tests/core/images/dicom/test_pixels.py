"""Every way in which a DICOM file may hold its pixels, on files made here and on pydicom's own."""

import io
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.data import get_testdata_file
from pydicom.pixels import apply_windowing, pixel_array

from medsae_ray.core.images.decode import read_image
from medsae_ray.core.images.dicom import Dicom
from medsae_ray.core.images.dicom.grey import windowed
from medsae_ray.errors import ImageError
from tests.support.hostile_files import encapsulated
from tests.support.medical import BIG, DEFLATED, IMPLICIT, LITTLE, dicom, ramp

HU = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 400}


def grey(data: bytes, frame: int = 0, window: str = "header") -> np.ndarray:
    return np.asarray(Dicom(data, max_pixels=10**6, window=window).image(frame))


def sample(name: str) -> Path:
    path = get_testdata_file(name, download=False)
    assert path, f"pydicom's package has no {name}"
    return Path(str(path))


def reason(data: bytes, **options: Any) -> str:
    with pytest.raises(ImageError) as error:
        Dicom(data, **{"max_pixels": 10**6, **options}).image()
    return error.value.reason


def test_a_window_is_applied_to_rescaled_values() -> None:
    stored = ramp(0, 1000)
    hu = stored * 2.0 - 1000
    expected = np.rint(255 * ((hu - 39.5) / 399 + 0.5).clip(0, 1))
    np.testing.assert_array_equal(grey(dicom(stored, **HU)), expected)


@given(st.floats(-500, 500), st.floats(2, 2000), st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]))
def test_windows_agree_with_pydicom(centre: float, width: float, function: str) -> None:
    values = ramp(-1000, 1000, np.float64)
    dataset = pydicom.Dataset()
    dataset.WindowCenter, dataset.WindowWidth, dataset.VOILUTFunction = (
        str(round(centre, 3)),
        str(round(width, 3)),
        function,
    )
    dataset.PhotometricInterpretation, dataset.BitsStored, dataset.PixelRepresentation = "MONOCHROME2", 8, 0
    ours = 255 * windowed(values, round(centre, 3), round(width, 3), function).clip(0, 1)
    np.testing.assert_allclose(ours, apply_windowing(values, dataset), atol=1e-6)


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG, DEFLATED])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_the_encoding_of_the_file_does_not_matter(syntax: str, dtype: Any) -> None:
    pixels = ramp(0, 200, dtype)
    np.testing.assert_array_equal(grey(dicom(pixels, syntax)), grey(dicom(pixels, LITTLE)))


def test_monochrome1_is_turned_over() -> None:
    plain, inverse = dicom(ramp(), **HU), dicom(ramp(), **HU, PhotometricInterpretation="MONOCHROME1")
    np.testing.assert_array_equal(grey(inverse), 255 - grey(plain))


def test_signed_values_are_signed() -> None:
    pixels = ramp(-1000, 1000, np.int16)
    image = grey(dicom(pixels))
    assert image[0, 0] == 0 and image[-1, -1] == 255 and (np.diff(image.ravel().astype(int)) >= 0).all()


def test_bits_beyond_those_stored_are_no_pixels() -> None:
    """Old scanners keep overlays in the upper bits of a 12-bit image."""
    pixels = ramp(0, 4095)
    marked = pixels | 0x8000
    np.testing.assert_array_equal(
        grey(dicom(marked, BitsStored=12, HighBit=11)), grey(dicom(pixels, BitsStored=12, HighBit=11))
    )


@pytest.mark.parametrize("low", [0, -2048])
@pytest.mark.parametrize(("shift", "below", "last"), [(4, 0, 15), (4, 9, 15), (2, 0, 13), (0, 0, 15), (0, 0, 11)])
def test_values_may_lie_high_in_their_words(low: int, shift: int, below: int, last: int) -> None:
    """Scanners of ACR-NEMA's time, with overlays in the lower bits; `last` says so of values that lie low, too."""
    pixels = ramp(low, low + 4095, np.int16 if low else np.uint16)
    window = {"WindowCenter": low + 2000, "WindowWidth": 1000, "BitsStored": 12}
    high = (pixels << shift) + pixels.dtype.type(below)
    np.testing.assert_array_equal(grey(dicom(high, **window, HighBit=last)), grey(dicom(pixels, **window, HighBit=11)))


def test_without_a_window_the_range_counts_but_not_its_padding() -> None:
    pixels = ramp(100, 900)
    padded = pixels.copy()
    padded[:5] = 60_000
    image = grey(dicom(padded, PixelPaddingValue=60_000))
    inside = pixels[5:].astype(float)
    expected = np.rint(255 * (inside - inside.min()) / (inside.max() - inside.min()))
    np.testing.assert_array_equal(image[5:], expected)


def test_minmax_leaves_the_window_aside() -> None:
    np.testing.assert_array_equal(grey(dicom(ramp(), **HU), window="minmax"), grey(dicom(ramp())))


def test_the_first_of_several_windows_counts() -> None:
    several = {**HU, "WindowCenter": [40, 500], "WindowWidth": [400, 3000]}
    np.testing.assert_array_equal(grey(dicom(ramp(), **several)), grey(dicom(ramp(), **HU)))


@pytest.mark.parametrize("window", [{"WindowWidth": 0}, {"WindowWidth": -5}, {"WindowCenter": None}])
def test_a_window_that_is_none_is_not_used(window: dict[str, Any]) -> None:
    np.testing.assert_array_equal(grey(dicom(ramp(), **{**HU, **window})), grey(dicom(ramp())))


def lut(values: list[int], first: int, bits: int) -> pydicom.Dataset:
    table = pydicom.Dataset()
    table.LUTDescriptor = [len(values), first, bits]
    table.add_new("LUTData", "OW", np.array(values, "<u2").tobytes())
    return table


def test_a_voi_lut_comes_before_a_window() -> None:
    pixels = ramp(0, 3)
    image = grey(dicom(pixels, VOILUTSequence=[lut([0, 4095, 1000, 2000], 0, 12)], WindowCenter=1, WindowWidth=3))
    np.testing.assert_array_equal(image, np.rint(np.array([0, 4095, 1000, 2000])[pixels] * 255 / 4095))


def test_a_modality_lut_takes_the_place_of_the_rescale() -> None:
    pixels = ramp(0, 3)
    image = grey(dicom(pixels, ModalityLUTSequence=[lut([10, 30, 20, 40], 0, 16)]))
    np.testing.assert_array_equal(image, np.rint((np.array([10, 30, 20, 40])[pixels] - 10) * 255 / 30))


def test_frames_are_images_of_their_own() -> None:
    frames = np.stack([ramp(0, 100), ramp(100, 0), np.full((24, 32), 7, np.uint16)])
    data = dicom(frames, NumberOfFrames=3)
    for number, frame in enumerate(frames):
        np.testing.assert_array_equal(grey(data, number), grey(dicom(frame)))
    with pytest.raises(ImageError, match="missing"):
        grey(data, 3)


def test_enhanced_files_have_a_window_for_each_frame() -> None:
    def group(**elements: Any) -> pydicom.Dataset:
        inner, outer = pydicom.Dataset(), pydicom.Dataset()
        for name, value in elements.items():
            setattr(inner, name, value)
        key = "FrameVOILUTSequence" if "WindowCenter" in elements else "PixelValueTransformationSequence"
        setattr(outer, key, [inner])
        return outer

    shared = group(RescaleSlope=2, RescaleIntercept=-1000)
    each = [group(WindowCenter=40, WindowWidth=400), group(WindowCenter=-600, WindowWidth=1500)]
    data = dicom(
        np.stack([ramp(), ramp()]),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=each,
    )
    np.testing.assert_array_equal(grey(data, 0), grey(dicom(ramp(), **HU)))
    np.testing.assert_array_equal(
        grey(data, 1), grey(dicom(ramp(), **{**HU, "WindowCenter": -600, "WindowWidth": 1500}))
    )


def test_colour_is_kept() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    np.testing.assert_array_equal(grey(dicom(colours)), colours)
    deep = colours.astype(np.uint16) * 257
    np.testing.assert_array_equal(grey(dicom(deep)), colours)


def test_any_reader_of_images_takes_dicom() -> None:
    np.testing.assert_array_equal(np.asarray(read_image(dicom(ramp(), **HU))), grey(dicom(ramp(), **HU)))


SAME = ("RLE", "bigendian", "implicit", "expb", "padded", "jp2klossless", "jpeg_ls_lossless")


@pytest.mark.parametrize("variant", SAME)
def test_compressed_files_show_what_the_plain_file_shows(variant: str) -> None:
    plain = grey(sample("MR_small.dcm").read_bytes())
    np.testing.assert_array_equal(grey(sample(f"MR_small_{variant}.dcm").read_bytes()), plain)


COLOURS = (
    *("SC_rgb_dcmtk_+eb+cr", "SC_rgb_dcmtk_+eb+cy+n1", "SC_rgb_dcmtk_+eb+cy+s2", "SC_rgb_dcmtk_+eb+cy+s4"),
    *("SC_rgb_gdcm_KY", "SC_rgb_jls_lossy_line", "SC_rgb_jls_lossy_sample", "SC_rgb_jpeg_dcmtk", "SC_rgb_rle"),
    *("SC_rgb_small_odd", "SC_rgb_small_odd_big_endian", "SC_ybr_full_422_uncompressed", "GDCMJ2K_TextGBR"),
    *("examples_rgb_color", "SC_jpeg_no_color_transform", "SC_rgb_jpeg_app14_dcmd"),
)


@pytest.mark.parametrize("name", COLOURS)
def test_colour_files_agree_with_pydicom(name: str) -> None:
    path = sample(f"{name}.dcm")
    np.testing.assert_allclose(grey(path.read_bytes()).astype(int), pixel_array(path).astype(int), atol=3)


def test_frames_of_a_compressed_file_agree_with_pydicom() -> None:
    path = sample("examples_ybr_color.dcm")
    data = path.read_bytes()
    for frame in (0, 17, 29):
        np.testing.assert_allclose(grey(data, frame).astype(int), pixel_array(path, index=frame).astype(int), atol=3)


def test_a_palette_becomes_colours() -> None:
    data = sample("examples_palette.dcm").read_bytes()
    dataset = pydicom.dcmread(io.BytesIO(data))
    stored = dataset.pixel_array
    red = np.frombuffer(dataset.RedPaletteColorLookupTableData, "<u2")
    bits = dataset.RedPaletteColorLookupTableDescriptor[2]
    expected = np.rint(red[stored] * (255 / (2**bits - 1)))
    np.testing.assert_allclose(grey(data)[..., 0], expected, atol=1)


@pytest.mark.parametrize("name", ["693_J2KI", "JPEG2000", "JPEGLSNearLossless_08", "JPEGLSNearLossless_16"])
def test_lossy_grey_files_are_read(name: str) -> None:
    path = sample(f"{name}.dcm")
    assert grey(path.read_bytes()).shape == pixel_array(path).shape and np.ptp(grey(path.read_bytes())) > 100


@pytest.mark.parametrize(("dtype", "bits"), [(np.uint8, 8), (np.uint16, 16), (np.int16, 16), (np.int16, 12)])
@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"])
def test_jpeg_without_loss_is_without_loss(syntax: str, dtype: Any, bits: int) -> None:
    import imagecodecs

    pixels = ramp(-2000 if np.iinfo(dtype).min < 0 else 0, min(np.iinfo(dtype).max, 2000), dtype)
    unsigned = pixels.view(f"u{pixels.dtype.itemsize}") & (2**bits - 1)
    frame = imagecodecs.jpeg8_encode(unsigned, lossless=True, bitspersample=bits)
    stored = {"PixelRepresentation": int(np.iinfo(dtype).min < 0), "BitsStored": bits, "HighBit": bits - 1}
    data = encapsulated(dicom(pixels, **stored), syntax, frame)
    np.testing.assert_array_equal(grey(data), grey(dicom(pixels)))


def test_jpeg_of_twelve_bits_is_read() -> None:
    import imagecodecs

    pixels, bits = ramp(0, 4095, rows=64, columns=64), {"BitsStored": 12, "HighBit": 11}
    frame = imagecodecs.jpeg8_encode(pixels, level=98, bitspersample=12)
    data = encapsulated(dicom(pixels, **bits), "1.2.840.10008.1.2.4.51", frame)
    np.testing.assert_allclose(grey(data).astype(int), grey(dicom(pixels, **bits)).astype(int), atol=2)
    assert grey(sample("JPGExtended.dcm").read_bytes()).shape == (1024, 256)


def test_damaged_lossless_jpeg_ends_no_process() -> None:
    data = sample("SC_rgb_jpeg_gdcm.dcm").read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(60):
        damaged = bytearray(data)
        for at in rng.integers(len(data) // 2, len(data), 20):
            damaged[at] = rng.integers(256)
        with suppress(ImageError):
            grey(bytes(damaged))


def test_a_deflated_file_is_read() -> None:
    image = grey(sample("image_dfl.dcm").read_bytes())
    assert image.shape == (512, 512) and np.ptp(image) == 255


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MR_truncated", "truncated"),
        ("rtplan", "no_pixels"),
        ("test-SR", "no_pixels"),
        ("badVR", "corrupt"),
        ("JPEG2000-embedded-sequence-delimiter", "corrupt"),
    ],
)
def test_files_without_an_image_say_why(name: str, expected: str) -> None:
    assert reason(sample(f"{name}.dcm").read_bytes()) == expected


@pytest.mark.parametrize(
    ("data", "options", "expected"),
    [
        (b"", {}, "empty"),
        (b"\x89PNG" * 50, {}, "not_an_image"),
        (dicom(ramp(), Rows=60_000, Columns=60_000), {}, "too_large"),
        (dicom(ramp()), {"max_pixels": 100}, "too_large"),
        (dicom(ramp())[:-100], {}, "truncated"),
        (dicom(ramp(), RescaleSlope="1e308", RescaleIntercept="1e308"), {}, "not_finite"),
    ],
)
def test_what_cannot_be_shown_says_why(data: bytes, options: dict[str, Any], expected: str) -> None:
    assert reason(data, **options) == expected
