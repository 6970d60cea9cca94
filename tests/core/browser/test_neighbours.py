from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from medsae_ray.core.browser.neighbours import NEAR, by_direction, by_images
from medsae_ray.core.browser.strength import sample_images, strongest
from tests.core.browser.made import made

X = np.zeros((60, 12), dtype=np.float32)
X[:6, 0], X[2:8, 1], X[7:9, 2] = 1, 2, 3


def test_features_are_near_by_the_images_that_they_share() -> None:
    data = replace(made(), x_NF=sparse.csc_array(X))
    assert by_images(data, 0) == [(1, pytest.approx(4 / 8))]
    assert [near.feature for near in by_images(data, 1)] == [0, 2]
    assert by_images(data, 5) == []


def test_features_are_near_by_their_directions() -> None:
    data = made()
    found = by_direction(data, 3)
    cosine = data.decoder_FD @ data.decoder_FD[3]
    assert len(found) == NEAR and 3 not in [near.feature for near in found]
    assert [near.value for near in found] == sorted((c for f, c in enumerate(cosine) if f != 3), reverse=True)[:NEAR]


def test_without_a_test_images_come_from_each_fifth_of_the_activation() -> None:
    data = replace(made(), tested=lambda feature: ())
    value, _ = strongest(data, 0)
    assert (np.diff(value) <= 0).all() and (value > 0).all()
    found = sample_images(data, 0)
    assert {image.role for image in found} == {f"bin{b}" for b in range(5)}
    weakest = {role: min(i.value for i in found if i.role == role) for role in ("bin4", "bin3")}
    assert weakest["bin4"] >= max(i.value for i in found if i.role == "bin3") and len(
        {i.image_id for i in found}
    ) == len(found)
    empty = replace(data, x_NF=sparse.csc_array(X), tested=lambda feature: ())
    assert sample_images(empty, 5) == [] and len(sample_images(empty, 2)) == 2
