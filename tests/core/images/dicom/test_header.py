"""What a header becomes: identifiers, frames, and metadata of which no word is the header's own."""

import logging
import warnings
from typing import Any

import numpy as np
import pytest

from medsae_ray.core.images.dicom import Header, read_header
from medsae_ray.core.images.dicom.header import BODY_PARTS, MAKERS, METADATA, MODALITIES, VIEWS
from medsae_ray.core.images.dicom.streams import check_rle, j2k_size, jpeg_size
from medsae_ray.errors import ImageError
from tests.support.hostile_files import j2k, jpeg
from tests.support.medical import dicom, ramp


def header(data: bytes) -> Header:
    return read_header(lambda count: data[:count], len(data))


def metadata(**elements: Any) -> dict[str, str | None]:
    return dict(zip(METADATA, header(dicom(ramp(), **elements)).metadata, strict=True))


def test_a_header_gives_identifiers_and_metadata() -> None:
    found = header(dicom(ramp(), patient="P7", number=9))
    assert (found.instance, found.patient, found.frames) == ("1.2.3.4.9", "\0P7", 1)
    assert metadata() == {
        "view": "PA",
        "sex": "F",
        "age": "45",
        "modality": "CT",
        "manufacturer": "Siemens",
        "body_part": "CHEST",
    }


@pytest.mark.parametrize(
    ("elements", "age"),
    [
        ({"PatientAge": "018M"}, "1"),
        ({"PatientAge": "100Y"}, "90"),
        ({"PatientAge": "", "PatientBirthDate": "19600615", "StudyDate": "20200614"}, "59"),
        ({"PatientAge": "", "PatientBirthDate": "2020", "StudyDate": "20200614"}, None),
        ({"PatientAge": "???"}, None),
    ],
)
def test_ages_are_whole_years(elements: dict[str, str], age: str | None) -> None:
    assert metadata(**elements)["age"] == age


def test_metadata_never_repeats_the_header() -> None:
    name = "MARIA SCHMIDT"
    texts = {
        c: name for c in ("Manufacturer", "BodyPartExamined", "ViewPosition", "Modality", "PatientSex", "PatientAge")
    }
    found = metadata(**texts)
    allowed = {*VIEWS.values(), *MODALITIES, *BODY_PARTS, *MAKERS.values(), "other", "F", "M", "O", None}
    assert set(found.values()) <= allowed and found["sex"] == "M"


def test_no_word_of_a_header_reaches_warnings_or_logs(caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    data = dicom(ramp(), patient="SECRET")
    bad = data.replace(b"045Y", b"S\xe9CR").replace(b"1.2.3.4.1", b"SECRET.UI").replace(b"DOE^JANE", b"\xff\xfeSECRET")
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        header(bad)
        with pytest.raises(ImageError) as error:
            header(bad[: bad.index(b"SECRET.UI") + 4])
    out = capfd.readouterr()
    assert "SECR" not in caplog.text + out.out + out.err + str(error.value) + "".join(str(w.message) for w in caught)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 2**31 - 1}, "too_many_frames"),
        ({"NumberOfFrames": 0}, None),
        ({"Rows": None}, "no_pixels"),
        ({"Rows": 0}, "no_pixels"),
    ],
)
def test_a_header_that_cannot_be_followed_says_why(elements: dict[str, Any], reason: str | None) -> None:
    data = dicom(ramp(), **elements)
    if reason is None:
        assert header(data).frames == 1
        return
    with pytest.raises(ImageError) as error:
        header(data)
    assert error.value.reason == reason


def test_long_elements_before_the_size_are_passed() -> None:
    data = dicom(ramp(), ImageComments="x" * 9000, PatientComments="y" * 10_000)
    private = data.index(b"\x28\x00\x02\x00")
    block = b"\x09\x00\x01\x10UN\0\0" + np.uint32(200_000).tobytes() + bytes(200_000)
    assert header(data[:private] + block + data[private:]).instance == "1.2.3.4.1"


def test_code_streams_tell_their_size() -> None:
    assert jpeg_size(jpeg(300, 200)) == (200, 300) and j2k_size(j2k(300, 200)) == (200, 300)
    assert jpeg_size(b"\xff\xd8\xff\xd9") is None and j2k_size(b"noise") is None


def test_run_lengths_beyond_the_frame_are_refused() -> None:
    check_rle(bytes(64) + b"\x81\0" * 10, 1280)
    with pytest.raises(ImageError, match="corrupt"):
        check_rle(bytes(64) + b"\x81\0" * 2**20, 1280)
