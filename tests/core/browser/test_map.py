"""The map of features: a link for each, and names only where there is room for them."""

import re

import pytest

from medsae_ray.core.browser.feature_map import FEW, WIDTH, feature_map
from medsae_ray.core.browser.frame import Frame
from tests.core.browser.made import made


@pytest.mark.parametrize("features", [3, FEW, FEW + 1])
def test_the_names_of_a_small_map_are_written_inside_it(features: int) -> None:
    tiles = Frame(made(features=features)).tiles
    drawn = str(feature_map({tile.feature: (float(tile.feature), 0.5) for tile in tiles}, tiles))
    assert drawn.count("<a href=") == drawn.count("<circle") == features
    ends = [(float(x), "end" in kind) for kind, x in re.findall(r'<text class="([^"]*)" x="([^"]*)"', drawn)]
    assert len(ends) == (features if features <= FEW else 0)
    assert all(end == (x + (9 if end else -9) >= WIDTH / 2) for x, end in ends)
