"""Colours of compressed frames: the stream tells what they are, whatever the header says."""

import io
from typing import Any

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.images.dicom import Dicom
from tests.support.hostile_files import encapsulated
from tests.support.medical import dicom

BASELINE, LOSSY_J2K = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90"
COLOURS = np.zeros((32, 48, 3), np.uint8)
COLOURS[:, :16], COLOURS[:, 16:32], COLOURS[:, 32:] = (200, 30, 30), (20, 160, 60), (240, 220, 40)


def shown(frame: bytes, said: str, syntax: str = BASELINE) -> np.ndarray:
    data = encapsulated(dicom(COLOURS, PhotometricInterpretation=said), syntax, frame)
    return np.asarray(Dicom(data, max_pixels=10**6).image())


def jpeg(**options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(COLOURS).save(stream, "JPEG", quality=95, **options)
    return stream.getvalue()


def without_jfif(frame: bytes) -> bytes:
    assert frame[2:4] == b"\xff\xe0"
    return frame[:2] + frame[4 + int.from_bytes(frame[4:6], "big") :]


def renamed(frame: bytes, names: bytes) -> bytes:
    """The components' names in the frame's and the scan's header."""
    out = bytearray(frame)
    frame_header, scan = frame.index(b"\xff\xc0"), frame.index(b"\xff\xda")
    out[frame_header + 10 : frame_header + 19 : 3] = names
    out[scan + 5 : scan + 11 : 2] = names
    return bytes(out)


def adobe(frame: bytes, transform: int) -> bytes:
    return frame[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\0\0\0\0" + bytes([transform]) + frame[2:]


YBR, SUBSAMPLED = without_jfif(jpeg(subsampling=0)), without_jfif(jpeg(subsampling=2))
RGB = imagecodecs.jpeg8_encode(COLOURS, level=95, colorspace="RGB", outcolorspace="RGB")


@pytest.mark.parametrize("said", ["RGB", "YBR_FULL", "YBR_FULL_422"])
@pytest.mark.parametrize(
    ("frame", "allowed"),
    [
        (jpeg(subsampling=0), 8),
        (jpeg(subsampling=2), 60),
        (YBR, 8),
        (SUBSAMPLED, 60),
        (renamed(SUBSAMPLED, b"\0\1\2"), 60),
        (adobe(YBR, 1), 8),
        (RGB, 8),
        (adobe(renamed(RGB, b"\1\2\3"), 0), 8),
    ],
    ids=["jfif", "jfif 420", "no marker", "420", "420 other names", "adobe ybr", "rgb", "adobe rgb"],
)
def test_a_jpeg_has_the_colours_that_it_stores(frame: bytes, allowed: int, said: str) -> None:
    difference = np.abs(shown(frame, said).astype(int) - COLOURS)
    assert difference.max() <= allowed and difference.mean() < 4


def test_where_the_stream_is_silent_the_header_is_believed() -> None:
    silent = renamed(RGB, b"\0\1\2")
    at = silent.index(b"\xff\xee")
    silent = silent[:at] + silent[at + 16 :]  # Adobe's marker
    assert np.abs(shown(silent, "RGB").astype(int) - COLOURS).max() <= 8
    assert np.abs(shown(silent, "YBR_FULL").astype(int) - COLOURS).max() > 50


@pytest.mark.parametrize("said", ["RGB", "YBR_RCT", "YBR_ICT", "YBR_FULL"])
def test_jpeg_2000_that_transforms_colours_gives_rgb(said: str) -> None:
    frame = imagecodecs.jpeg2k_encode(COLOURS, level=0, codecformat="j2k", mct=True, colorspace="SRGB")
    np.testing.assert_array_equal(shown(frame, said, LOSSY_J2K), COLOURS)
