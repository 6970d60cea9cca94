"""The places in an image where a feature is active: its activations on the patches, and their positions.

Legend: T tokens of an image, D embedding dimension, M features, H x W the grid of patches.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch

from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.layout import Layout, token_matrix
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.core.sae.activations import tokens_encoded
from medsae_ray.core.sae.model import SAE

Pair = tuple[int, str]
"""A feature and an image_id."""


class Square(NamedTuple):
    """The encoder's input as a part of an image: 0 and 1 are the image's borders, and a padded input reaches beyond."""

    left: float
    top: float
    right: float
    bottom: float


class PatchMap(NamedTuple):
    """The map of a feature on one image."""

    value_HW: np.ndarray
    """The feature's activation on each patch, float32."""
    square: Square
    """The part of the image that the patches divide."""


@torch.no_grad()
def patch_values(
    embeddings: Artifact, sae: SAE, shard_of: Mapping[str, int], wanted: Iterable[Pair]
) -> dict[Pair, np.ndarray]:
    """Compute activations [H, W] of features on images from the stored patch embeddings, one part at a time.

    Their maximum is the image's value in the activations artifact. An image without embeddings is left out.
    """
    grid = Layout.of(embeddings.schema).grid
    assert grid, "these are embeddings of patches"
    features: dict[str, list[int]] = defaultdict(list)
    for feature, image_id in wanted:
        features[image_id].append(feature)
    found: dict[Pair, np.ndarray] = {}
    for shard in sorted({shard_of[image_id] for image_id in features}):
        part = embeddings.part(shard)
        x_NTD, rows = token_matrix(part)
        for x_TD, image_id in zip(x_NTD, part["image_id"].take(rows).to_pylist(), strict=True):
            if image_id in features:
                _, z_TM = tokens_encoded(sae, x_TD[None], "cpu")
                found |= {(f, image_id): z_TM[:, f].numpy().reshape(grid) for f in features[image_id]}
    return found


def input_square(preprocess: Preprocess, width: int, height: int) -> Square:
    """Return the part of an image of that size that `preprocess` takes as its input."""
    size, side = preprocess.size, preprocess.resize or preprocess.size
    if preprocess.fit == "pad":
        side = max(size, width, height)
        left, top = -((side - width) // 2), -((side - height) // 2)
        return Square(left / width, top / height, (left + side) / width, (top + side) / height)
    short = min(width, height)
    crops = preprocess.fit == "crop"
    wide, high = (int(side * n / short) if crops else side for n in (width, height))
    left, top = (wide - size) // 2, (high - size) // 2
    return Square(left / wide, top / high, (left + size) / wide, (top + size) / high)
