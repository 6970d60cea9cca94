"""Grey values of more than 8 bits, as a PNG that a page can window: red is the high byte, green the low one."""

import io

import numpy as np
from PIL import Image

from medsae_ray.core.browser.data import Shade
from medsae_ray.core.images.dicom import GreyValues

LARGEST = 65535


def shade(values: GreyValues, side: int) -> Shade:
    """Return the values of an image reduced to at most `side` pixels a side. Whole numbers within 65,536 stay exact;
    others are scaled to 16 bits."""
    value_HW = _reduced(values.value_HW, side)
    least, most = float(value_HW.min()), float(value_HW.max())
    exact = most - least <= LARGEST and bool((values.value_HW == np.rint(values.value_HW)).all())
    low, high = (np.floor(least), np.floor(least) + LARGEST) if exact else (least, max(most, least + 1e-9))
    code_HW = np.rint((value_HW - low) / (high - low) * LARGEST).astype(np.uint16)
    pixels_HW3 = np.stack([code_HW >> 8, code_HW & 255, np.zeros_like(code_HW)], axis=2).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels_HW3).save(out, "PNG", compress_level=1)
    window = values.window or ((least + most) / 2, max(most - least, 1e-9))
    return Shade(out.getvalue(), float(low), float(high), least, most, window, values.inverted)


def _reduced(value_HW: np.ndarray, side: int) -> np.ndarray:
    """Return the mean of the values below each pixel, if there are too many."""
    image = Image.fromarray(value_HW.astype(np.float32))
    if max(image.size) <= side:
        return value_HW
    share = side / max(image.size)
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return np.asarray(image.resize(size, Image.Resampling.BOX), dtype=np.float64)
