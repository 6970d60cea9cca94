"""Numbers, signs, tables and padding as vendors write them, against what they mean."""

import math
import struct
from typing import Any

import numpy as np
import pydicom
import pytest

from medsae_ray.core.images.dicom import Dicom
from medsae_ray.core.images.dicom.luts import Descriptor, _unfolded
from medsae_ray.core.images.dicom.numbers import number
from medsae_ray.core.images.notes import notes_of
from medsae_ray.errors import ImageError
from tests.support.medical import BIG, dicom, ramp, with_raw

CT = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
WINDOW = {"WindowCenter": "40", "WindowWidth": "400"}
SOFT = ramp(864, 1264)
"""-160 to 240 Hounsfield units, which the window spans."""
FRAMES = "PerFrameFunctionalGroupsSequence"


def grey(data: bytes, frame: int = 0, **options: Any) -> np.ndarray:
    return np.asarray(Dicom(data, max_pixels=10**6, **options).image(frame))


def reason(data: bytes) -> str:
    with pytest.raises(ImageError) as error:
        grey(data)
    return error.value.reason


def padded(text: str) -> bytes:
    return text.encode() + b" " * (len(text) % 2)


def item(**elements: Any) -> pydicom.Dataset:
    made = pydicom.Dataset()
    for name, value in elements.items():
        setattr(made, name, value) if not isinstance(value, tuple) else made.add_new(name, *value)
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[
            ("400,0", 400),
            ("400.0", 400),
            (" 400 ", 400),
            ("400\0", 400),
            ("+4e2", 400),
            ("4,0E+2", 400),
            ("4.D2", 400),
        ],
        *[("-,5", -0.5), (".5", 0.5), ("1,024", 1.024), ("", None), (" \0", None), ("0x28", math.nan)],
        *[("1,024.5", math.nan), ("1,024,000", math.nan), ("inf", math.nan), ("NaN", math.nan), ("4_0", math.nan)],
        *[("40 HU", math.nan), ("40;", math.nan), ("- 40", math.nan), ("40\0junk", math.nan), ("N/A", math.nan)],
    ],
)
def test_a_text_is_a_number_as_a_whole_or_not_at_all(text: str, value: float | None) -> None:
    found = number(text)
    assert found == value if value is None or found is None else found == pytest.approx(value, nan_ok=True)


@pytest.mark.parametrize("tag", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("vr", ["DS", "LO", "SH", "UN", "OB"])
def test_a_decimal_comma_is_a_decimal_point(tag: str, vr: str) -> None:
    good = dicom(SOFT, **CT, **WINDOW)
    odd = with_raw(good, tag, vr, padded({"WindowCenter": "40,0", "WindowWidth": "400,0"}[tag]))
    np.testing.assert_array_equal(grey(odd), grey(good))


@pytest.mark.parametrize(("vr", "code"), [("FD", "<d"), ("FL", "<f"), ("US", "<H"), ("SL", "<i")])
def test_binary_numbers_in_place_of_text_are_numbers(vr: str, code: str) -> None:
    odd = with_raw(dicom(SOFT, **CT, **WINDOW), "WindowWidth", vr, struct.pack(code, 400))
    np.testing.assert_array_equal(grey(odd), grey(dicom(SOFT, **CT, **WINDOW)))


@pytest.mark.parametrize("tag", ["WindowCenter", "WindowWidth"])
@pytest.mark.parametrize("text", ["0x28", "1,024.5", "inf", "nan", "N/A", "4OO"])
def test_a_window_that_is_no_number_is_not_there_and_is_noted(tag: str, text: str) -> None:
    odd = with_raw(dicom(SOFT, **CT, **WINDOW), tag, "DS", padded(text))
    image = Dicom(odd, max_pixels=10**6).image()
    np.testing.assert_array_equal(np.asarray(image), grey(dicom(SOFT, **CT)))
    assert notes_of(image) == ("odd_number",) and notes_of(Dicom(dicom(SOFT), max_pixels=10**6).image()) == ()


def test_the_first_window_of_several_that_is_one_counts() -> None:
    several = dicom(SOFT, **CT, WindowCenter=["1", "40"], WindowWidth=["1", "400"])
    several = with_raw(several, "WindowWidth", "DS", b"wide\\400,0")
    np.testing.assert_array_equal(grey(several), grey(dicom(SOFT, **CT, **WINDOW)))
    more_widths = dicom(SOFT, **CT, WindowCenter="40", WindowWidth=["400", "300"])
    np.testing.assert_array_equal(grey(more_widths), grey(dicom(SOFT, **CT, **WINDOW)))


@pytest.mark.parametrize(
    ("tag", "text"), [("RescaleSlope", "1,0"), ("RescaleIntercept", "-1024,0"), ("RescaleSlope", "1\0")]
)
def test_slope_and_intercept_are_read_like_windows(tag: str, text: str) -> None:
    good = dicom(SOFT, **CT, **WINDOW)
    np.testing.assert_array_equal(grey(with_raw(good, tag, "DS", padded(text))), grey(good))


@pytest.mark.parametrize(
    ("tag", "text"), [("RescaleSlope", "one"), ("RescaleSlope", "nan"), ("RescaleIntercept", "0x0")]
)
def test_a_slope_that_is_no_number_leaves_no_values(tag: str, text: str) -> None:
    assert reason(with_raw(dicom(SOFT, **CT, **WINDOW), tag, "DS", padded(text))) == "not_finite"


@pytest.mark.parametrize("slope", ["0", "0.0", ""])
def test_a_slope_of_zero_or_none_is_one(slope: str) -> None:
    flat = dicom(SOFT, **{**CT, "RescaleSlope": slope}, **WINDOW)
    np.testing.assert_array_equal(grey(flat), grey(dicom(SOFT, **CT, **WINDOW)))


@pytest.mark.parametrize(
    ("tag", "vr", "value"), [("Rows", "IS", b"24"), ("BitsStored", "DS", b"16"), ("Columns", "LO", b"32\0\0")]
)
def test_sizes_written_as_text_are_sizes(tag: str, vr: str, value: bytes) -> None:
    np.testing.assert_array_equal(grey(with_raw(dicom(SOFT), tag, vr, value)), grey(dicom(SOFT)))
    assert reason(with_raw(dicom(SOFT), tag, "LO", b"2x")) == "corrupt"


def test_a_window_narrower_than_one_is_no_step() -> None:
    small = dicom(ramp(0, 1000), RescaleSlope="0.0001", RescaleIntercept="0", WindowCenter="0.05", WindowWidth="0.1")
    assert np.abs(grey(small).astype(int) - np.rint(ramp(0, 1000) * 0.255)).max() <= 1


# Signs and tables.


def lut(first: int, vr: str = "US", values: Any = range(0, 4096, 2), bits: int = 12) -> pydicom.Dataset:
    entries = np.array(list(values), "<u2")
    return item(LUTDescriptor=(vr, [len(entries) % 2**16, first, bits]), LUTData=("OW", entries.tobytes()))


SIGNED = ramp(-1024, 1023, np.int16)


@pytest.mark.parametrize(("first", "vr"), [(64512, "US"), (-1024, "SS")])
@pytest.mark.parametrize(("pixels", "more"), [(SIGNED, {}), ((SIGNED + 1024).astype(np.uint16), CT)])
def test_the_first_mapped_value_is_negative_where_values_can_be(first: int, vr: str, pixels: Any, more: Any) -> None:
    image = grey(dicom(pixels, VOILUTSequence=[lut(first, vr)], **more))
    np.testing.assert_array_equal(image, np.rint((SIGNED.astype(int) + 1024) * 2 * 255 / 4095))


@pytest.mark.parametrize(("first", "vr"), [(40_000, "US"), (-25_536, "SS")])
@pytest.mark.parametrize("more", [{}, CT])
def test_a_first_mapped_value_beyond_the_signed_is_one_where_values_reach_it(first: int, vr: str, more: Any) -> None:
    stored = (ramp(40_000, 42_047).astype(int) + (1024 if more else 0)).astype(np.uint16)
    image = grey(dicom(stored, VOILUTSequence=[lut(first, vr)], **more))
    assert image[0, 0] == 0 and image[-1, -1] == 255 and 120 < image.mean() < 135


@pytest.mark.parametrize(("first", "vr"), [(64512, "US"), (-1024, "SS")])
def test_a_modality_lut_has_the_sign_of_the_pixels(first: int, vr: str) -> None:
    image = grey(dicom(SIGNED, ModalityLUTSequence=[lut(first, vr)]))
    np.testing.assert_array_equal(image, np.rint((SIGNED.astype(int) + 1024) * 255 / 2047))


@pytest.mark.parametrize("vr", ["US", "SS"])
def test_a_table_of_65536_entries_says_zero(vr: str) -> None:
    whole = item(LUTDescriptor=(vr, [0, 0, 16]), LUTData=("OW", np.arange(2**16, dtype="<u2").tobytes()))
    pixels = ramp(0, 65_535)
    np.testing.assert_array_equal(grey(dicom(pixels, VOILUTSequence=[whole])), np.rint(pixels / 257))


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("syntax", [None, BIG])
@pytest.mark.parametrize("packed", [True, False])
def test_bytes_of_a_table_may_stand_two_to_a_word(sequence: str, syntax: str | None, packed: bool) -> None:
    words = np.arange(256).astype("u1" if packed else "<u2").tobytes()
    if syntax == BIG:
        words = np.frombuffer(words, "<u2").astype(">u2").tobytes()
    table = item(LUTDescriptor=("US", [256, 0, 8]), LUTData=("OW", words))
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    options = {"syntax": syntax} if syntax else {}
    np.testing.assert_array_equal(grey(dicom(pixels, **options, **{sequence: [table]})), pixels)


@pytest.mark.parametrize(("said", "held"), [(16, 8), (16, 12), (16, 10), (10, 8), (12, 12), (16, 14)])
def test_a_table_of_fewer_bits_than_it_says_is_as_bright_as_its_bits(said: int, held: int) -> None:
    entries = np.linspace(0, 2**held - 1, 2001).astype("<u2")
    lut = item(LUTDescriptor=("US", [2001, 0, said]), LUTData=("OW", entries.tobytes()))
    top = 255 if held <= said - 4 or held in (8, said) else 255 / 4
    assert grey(dicom(ramp(0, 2000), VOILUTSequence=[lut])).max() == round(top)


@pytest.mark.parametrize("sequence", ["VOILUTSequence", "ModalityLUTSequence"])
def test_an_empty_item_of_a_table_is_none(sequence: str) -> None:
    plain = dicom(SOFT, **CT, **WINDOW)
    np.testing.assert_array_equal(grey(dicom(SOFT, **CT, **WINDOW, **{sequence: [item()]})), grey(plain))


def test_a_table_shorter_than_it_says_is_corrupt() -> None:
    short = item(LUTDescriptor=("US", [4096, 0, 12]), LUTData=("OW", bytes(200)))
    assert reason(dicom(SOFT, VOILUTSequence=[short])) == "corrupt"


def palette(colour: str, values: np.ndarray, first: int = 0, bits: int = 16, vr: str = "US") -> dict[str, Any]:
    name = f"{colour}PaletteColorLookupTable"
    return {f"{name}Descriptor": (vr, [len(values), first, bits]), f"{name}Data": ("OW", values.tobytes())}


@pytest.mark.parametrize(("syntax", "order"), [("1.2.840.10008.1.2.1", "<u2"), (BIG, ">u2")])
@pytest.mark.parametrize("bits", [16, 8])
def test_a_palette_is_read_in_the_files_byte_order(syntax: str, order: str, bits: int) -> None:
    values = np.arange(100, 356) if bits == 8 else np.arange(256) * 257
    red, green, blue = (np.roll(values, n) % 2**bits for n in (0, 50, 100))
    tables = {**palette("Red", red.astype(order), bits=bits), **palette("Green", green.astype(order), bits=bits)}
    pixels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    data = dicom(pixels, syntax, PhotometricInterpretation="PALETTE COLOR")
    for name, (vr, value) in (tables | palette("Blue", blue.astype(order), bits=bits)).items():
        words = struct.pack(f"{order[0]}3H", *value) if isinstance(value, list) else value
        data = with_raw(data, name, vr, words)
    expected = np.stack([red, green, blue], axis=-1)[pixels] / (257 if bits == 16 else 1)
    np.testing.assert_array_equal(grey(data), expected)


def test_a_segmented_palette_unfolds() -> None:
    said = Descriptor(10, 0, 16)
    packed = [0, 2, 10, 20, 1, 4, 60, 2, 1, 0, 0, 0, 2, 7, 8]
    assert list(_unfolded(packed, said)) == [10, 20, 30, 40, 50, 60, 10, 20, 7, 8]
    bomb = [0, 1, 5] + [1, 65_535, 9] * 10_000
    assert len(list(_unfolded(bomb, Descriptor(2**16, 0, 16)))) < 3 * 2**16


# Padding.

HOLED = ramp(-1000, 1000, np.int16)
HOLED[:5] = -2000


@pytest.mark.parametrize(
    ("vr", "value"), [("SS", -2000), ("US", 63_536), ("DS", b"-2000 "), ("IS", b"63536 "), ("US", 2096)]
)
def test_padding_has_the_sign_of_the_pixels(vr: str, value: Any) -> None:
    bits = {"BitsStored": 12, "HighBit": 11}
    raw = value if isinstance(value, bytes) else struct.pack("<h" if vr == "SS" else "<H", value)
    image = grey(with_raw(dicom(HOLED, **bits), "PixelPaddingValue", vr, raw))
    assert (image[:5] == 0).all() and image[5, 0] == 0 and image[-1, -1] == 255 and 120 < image[5:].mean() < 135


def test_the_limit_of_padding_has_it_too() -> None:
    holed = HOLED.copy()
    holed[:2] = -1900
    data = with_raw(dicom(holed), "PixelPaddingValue", "US", struct.pack("<H", 63_536))
    data = with_raw(data, "PixelPaddingRangeLimit", "US", struct.pack("<H", 63_636))
    np.testing.assert_array_equal(grey(data), grey(dicom(HOLED, PixelPaddingValue=-2000)))


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": "2000", "WindowWidth": "4096"}])
@pytest.mark.parametrize("value", [0, 60_000])
def test_padding_is_black_on_the_screen(kind: str, window: Any, value: int) -> None:
    pixels = ramp(500, 4000)
    pixels[:5] = value
    image = grey(dicom(pixels, PhotometricInterpretation=kind, PixelPaddingValue=value, **window))
    assert (image[:5] == 0).all() and np.ptp(image[5:]) > 150
    unmasked = grey(dicom(ramp(500, 4000)[5:], PhotometricInterpretation=kind, **window))
    np.testing.assert_array_equal(image[5:], unmasked)


def test_padding_that_is_no_number_is_noted() -> None:
    image = Dicom(with_raw(dicom(HOLED), "PixelPaddingValue", "LO", b"none"), max_pixels=10**6).image()
    np.testing.assert_array_equal(np.asarray(image), grey(dicom(HOLED)))
    assert notes_of(image) == ("odd_number",)


# Functional groups.

ROW = ramp(0, 1000).reshape(1, 24, 32)


def rescaled(slope: Any, intercept: Any) -> pydicom.Dataset:
    return item(RescaleSlope=slope, RescaleIntercept=intercept)


def groups(slope: Any = None, window: Any = None, table: Any = None) -> pydicom.Dataset:
    made = pydicom.Dataset()
    if slope:
        made.PixelValueTransformationSequence = [rescaled(*slope)]
    if window:
        made.FrameVOILUTSequence = [item(WindowCenter=window[0], WindowWidth=window[1])]
    if table:
        made.FrameVOILUTSequence = [item(VOILUTSequence=[table])]
    return made


def enhanced(frame: pydicom.Dataset, shared: pydicom.Dataset | None = None, **top: Any) -> bytes:
    more = {} if shared is None else {"SharedFunctionalGroupsSequence": [shared]}
    return dicom(ROW, NumberOfFrames=1, PerFrameFunctionalGroupsSequence=[frame], **more, **top)


WANTED = grey(dicom(ROW[0], RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=0, WindowWidth=400))


@pytest.mark.parametrize(
    ("frame", "shared", "top"),
    [
        (groups((2, -1000), (0, 400)), None, {}),
        (groups((2, -1000), (0, 400)), None, {"RescaleSlope": 1, "RescaleIntercept": 0}),
        (groups((2, -1000), (0, 400)), None, {"WindowCenter": 500, "WindowWidth": 10}),
        (groups((2, -1000), (0, 400)), groups((3, 7), (5, 9)), {"VOILUTSequence": [lut(0)]}),
        (groups((2, -1000)), groups((3, 7), (0, 400)), {"WindowCenter": 500, "WindowWidth": 10}),
        (groups(), groups((2, -1000), (0, 400)), {"RescaleSlope": 1, "ModalityLUTSequence": [lut(0)]}),
        (groups(), groups(), {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 0, "WindowWidth": 400}),
        (groups(("", ""), ("", "")), groups((2, -1000), (0, 400)), {}),
        (groups((2, -1000), (0, 0)), groups((3, 7), (0, 400)), {}),
    ],
)
def test_what_a_frame_says_itself_counts_first(frame: Any, shared: Any, top: Any) -> None:
    np.testing.assert_array_equal(grey(enhanced(frame, shared, **top)), WANTED)


def test_a_frame_may_have_a_lut_of_its_own() -> None:
    data = enhanced(groups((2, -1000), table=lut(-1000, "SS", range(2001), 11)), WindowCenter=0, WindowWidth=1)
    np.testing.assert_array_equal(grey(data), np.rint(ROW[0].astype(int) * 2 * 255 / 2047))


def test_numbers_of_a_frame_are_read_as_those_of_a_file() -> None:
    data = enhanced(groups((2, -1000), (0, 400)), RescaleSlope=1)
    data = with_raw(data, f"{FRAMES}/FrameVOILUTSequence/WindowWidth", "DS", b"400,0 ")
    data = with_raw(data, f"{FRAMES}/PixelValueTransformationSequence/RescaleSlope", "DS", b"2,0 ")
    np.testing.assert_array_equal(grey(data), WANTED)
