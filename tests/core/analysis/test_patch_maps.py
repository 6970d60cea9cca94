import numpy as np
import pytest
from PIL import Image

from medsae_ray.core.analysis.patch_maps import input_square
from medsae_ray.core.images.decode import Preprocess


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (240, 240), (40, 60)])
@pytest.mark.parametrize(
    "preprocess",
    [
        Preprocess(64, fit="pad"),
        Preprocess(64, fit="stretch"),
        Preprocess(64, fit="stretch", resize=80),
        Preprocess(64, fit="crop"),
        Preprocess(64, fit="crop", resize=90),
    ],
    ids=lambda p: f"{p.fit}-{p.resize}",
)
def test_a_place_of_the_input_is_found_in_the_image(preprocess: Preprocess, size: tuple[int, int]) -> None:
    """A bright spot of the image, where the encoder gets it, mapped back by the square."""
    width, height = size
    at_x, at_y = 0.55 * width, 0.42 * height
    y, x = np.mgrid[:height, :width] + 0.5
    spot = 255 * np.exp(-((x - at_x) ** 2 + (y - at_y) ** 2) / (2 * (min(size) / 20) ** 2))
    seen = preprocess(Image.fromarray(spot.astype(np.uint8))).astype(float)
    centre = (np.arange(preprocess.size) + 0.5) / preprocess.size
    found_x, found_y = (float((seen.sum(axis) * centre).sum() / seen.sum()) for axis in (0, 1))
    left, top, right, bottom = input_square(preprocess, width, height)
    assert left + found_x * (right - left) == pytest.approx(0.55, abs=0.02)
    assert top + found_y * (bottom - top) == pytest.approx(0.42, abs=0.02)
