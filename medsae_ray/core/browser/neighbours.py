"""The features near a feature: by the direction of their decoders, and by the images on which both are active.

Legend: N images, F features, D dimensions.
"""

from typing import NamedTuple

import numpy as np

from medsae_ray.core.browser.data import BrowserData

NEAR = 8
"""The neighbours of each kind on a card."""


class Neighbour(NamedTuple):
    """A feature near another one."""

    feature: int
    value: float
    """The cosine of the decoders, or the share of images with both among those with either."""


def by_direction(data: BrowserData, feature: int) -> list[Neighbour]:
    """Return the features with the largest cosine of decoder directions."""
    cosine_F = data.decoder_FD @ data.decoder_FD[feature]
    return _largest(cosine_F, feature)


def by_images(data: BrowserData, feature: int) -> list[Neighbour]:
    """Return the features that are active on the same images: Jaccard's coefficient, above 0."""
    rows = data.x_NF.indices[data.x_NF.indptr[feature] : data.x_NF.indptr[feature + 1]]
    both_F = np.bincount(data.active_NF[rows].indices, minlength=len(data.count_F))
    either_F = data.count_F + data.count_F[feature] - both_F
    share_F = np.divide(both_F, either_F, out=np.zeros(len(both_F)), where=either_F > 0)
    return [near for near in _largest(share_F, feature) if near.value > 0]


def _largest(value_F: np.ndarray, but: int) -> list[Neighbour]:
    order = np.argsort(-value_F, kind="stable")[: NEAR + 1]
    return [Neighbour(int(f), float(value_F[f])) for f in order if f != but][:NEAR]
