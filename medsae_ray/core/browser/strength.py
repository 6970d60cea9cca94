"""The images of a feature by the strength of its activation."""

from collections.abc import Sequence

import numpy as np

from medsae_ray.core.browser.data import BrowserData, SampleImage

FIFTHS = 5
OF_FIFTH = 8
"""The images of each fifth of a feature's activation, where no test has chosen some."""


def sample_images(data: BrowserData, feature: int) -> Sequence[SampleImage]:
    """Return the images that a feature's name is tested on, or else images of each fifth of its activation, evenly by
    rank."""
    if chosen := data.tested(feature):
        return chosen
    value, row = strongest(data, feature)
    found: list[SampleImage] = []
    for number, part in enumerate(np.array_split(np.arange(len(row)), FIFTHS)):
        places = np.unique(np.linspace(0, max(len(part) - 1, 0), OF_FIFTH).astype(int))
        role = f"bin{FIFTHS - 1 - number}"
        found += [SampleImage(data.images.id_N[row[i]], role, float(value[i])) for i in part[places[: len(part)]]]
    return found


def strongest(data: BrowserData, feature: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a feature's activations above 0, the strongest first, and the rows of their images."""
    of = slice(*data.x_NF.indptr[feature : feature + 2])
    value, row = data.x_NF.data[of], data.x_NF.indices[of]
    order = np.lexsort((row, -value))
    return value[order], row[order]
