"""Slices of made-up scans with all that is known of them, to train an encoder on.

Legend: N slices, S side, T tokens (a square grid), O organs, K targets.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medsae_ray.core.datasets.windows import ct_window
from medsae_ray.core.images.decode import MAX_PIXELS, Preprocess
from medsae_ray.core.images.nifti import AXES, PLANES, Volume
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.core.phantom.volumes.people import HELD_OUT, Person, person
from medsae_ray.core.phantom.volumes.scan import draw, nifti

SIZE, TOKENS, PER_PLANE = 96, 6, 8
"""The pixels and the tokens of a side, and the most slices of a scan in a plane."""
TARGETS = (*ORGANS, *PLANES, "MR", "female", "age > 60")


class Slices(NamedTuple):
    """Drawn slices: x_NSS uint8, y_NK float32 (0 or 1), w_NTO float16 (an organ's share of a token)."""

    x_NSS: Tensor
    y_NK: Tensor
    w_NTO: Tensor


def squared(label_HW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return organs at the encoder's size [S, S], padded as the image is."""
    height, width = label_HW.shape
    side = max(SIZE, height, width)
    square = np.zeros((side, side), np.uint8)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = label_HW
    at = ((np.arange(SIZE) + 0.5) * side / SIZE).astype(int)
    label_SS: NDArray[np.uint8] = square[at[:, None], at]
    return label_SS


def places(label_SS: NDArray[np.uint8]) -> NDArray[np.float16]:
    """Return w_TO: the share of each token's pixels in each organ, times 4, at most 1."""
    cell = SIZE // TOKENS
    token_SS = np.arange(SIZE) // cell
    key_SS = (token_SS[:, None] * TOKENS + token_SS) * (len(ORGANS) + 1) + label_SS
    counts = np.bincount(key_SS.ravel(), minlength=TOKENS**2 * (len(ORGANS) + 1)).reshape(TOKENS**2, -1)
    share: NDArray[np.float16] = np.minimum(4 * counts[:, 1:] / cell**2, 1).astype(np.float16)
    return share


def slices_of(who: Person, rng: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield x_SS, y_K and w_TO of some slices of each plane, among those that show an organ."""
    scan = draw(who)
    volume, labels = Volume(nifti(scan.volume, scan.affine)), Volume(nifti(scan.organ, scan.affine))
    window = "p1:99" if who.modality == "MR" else ":".join(map(str, ct_window(who.study.name)))
    about = [who.modality == "MR", who.sex == "f", who.age > 60]
    preprocess = Preprocess(size=SIZE)
    for plane in PLANES:
        shown = np.flatnonzero(labels.present()[plane])
        for index in rng.choice(shown, min(PER_PLANE, len(shown)), replace=False):
            label_HW = np.moveaxis(labels.voxels_XYZ, AXES[plane], 0)[index][::-1, ::-1].T
            there = np.isin(np.arange(1, len(ORGANS) + 1), label_HW)
            y_K = np.array([*there, *(plane == one for one in PLANES), *about], np.float32)
            x_SS = preprocess(volume.image(plane, int(index), window, MAX_PIXELS))
            yield x_SS, y_K, places(squared(label_HW))


def people(seed: int, scans: int, held_out: bool) -> list[Person]:
    """Return the first `scans` people of the institutes that recipes hold out, or of all others."""
    found: list[Person] = []
    number = 0
    while len(found) < scans:
        number += 1
        who = person(seed, number)
        if (who.institute.name in HELD_OUT) == held_out:
            found.append(who)
    return found


def drawn(chosen: list[Person]) -> Slices:
    """Draw slices of people's scans."""
    rng = np.random.default_rng(0)
    x, y, w = zip(*(one for who in chosen for one in slices_of(who, rng)), strict=True)
    return Slices(*(torch.from_numpy(np.stack(part)) for part in (x, y, w)))
