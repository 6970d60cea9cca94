import io

import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.browser.data import Shade
from medsae_ray.core.browser.shade import shade
from medsae_ray.core.images.decode import grey_values
from medsae_ray.core.images.dicom import Dicom, GreyValues
from tests.support.medical import dicom


def decoded(found: Shade) -> np.ndarray:
    """The values that a page's colour matrix sees."""
    rgb = np.asarray(Image.open(io.BytesIO(found.png))).astype(np.float64)
    return found.low + (rgb[..., 0] * 256 + rgb[..., 1]) / 65535 * (found.high - found.low)


def test_whole_numbers_stay_exact_and_others_within_a_step() -> None:
    rng = np.random.default_rng(0)
    whole = rng.integers(-1024, 3072, (30, 40)).astype(np.float64)
    found = shade(GreyValues(whole), 64)
    assert np.abs(decoded(found) - whole).max() < 1e-6 and (found.least, found.most) == (whole.min(), whole.max())
    real = rng.normal(0, 1, (30, 40))
    found = shade(GreyValues(real), 64)
    assert np.abs(decoded(found) - real).max() <= (found.high - found.low) / 65535
    assert shade(GreyValues(np.ones((3, 3))), 64).window[1] > 0


def test_a_large_image_is_reduced_to_means() -> None:
    value = np.arange(64.0).reshape(8, 8)
    found = shade(GreyValues(value), 4)
    assert decoded(found) == pytest.approx(value.reshape(4, 2, 4, 2).mean(axis=(1, 3)), abs=1)


def test_values_come_from_deep_files_only() -> None:
    deep = np.arange(600, dtype=np.uint16).reshape(20, 30) * 90
    stream = io.BytesIO()
    Image.fromarray(deep).save(stream, "PNG")
    assert (grey_values(stream.getvalue()).value_HW == deep).all()
    for mode in ("L", "RGB"):
        stream = io.BytesIO()
        Image.new(mode, (8, 8)).save(stream, "PNG")
        assert grey_values(stream.getvalue()) is None


def test_a_dicom_file_has_its_measured_values_its_window_and_its_polarity() -> None:
    pixels = np.arange(400, dtype=np.uint16).reshape(20, 20) * 4
    told = {"RescaleSlope": 2, "RescaleIntercept": -1024, "WindowCenter": 40, "WindowWidth": 400}
    found = Dicom(dicom(pixels, **told), max_pixels=10**6).values()
    assert (found.value_HW == pixels * 2.0 - 1024).all() and found.window == (40, 400) and not found.inverted
    turned = Dicom(dicom(pixels, PhotometricInterpretation="MONOCHROME1"), max_pixels=10**6).values()
    assert turned.inverted and turned.window is None
    assert shade(turned, 64).window == ((pixels.min() + pixels.max()) / 2, pixels.max() - pixels.min())
