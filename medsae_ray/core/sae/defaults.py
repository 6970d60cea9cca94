"""Settings of an SAE that follow from its training rows, where a recipe does not give them.

Measured in benchmarks/2026-11-28-sae-defaults.md. A dictionary that is wide for its rows learns single rows by heart:
most features stay silent, and on other rows far more than k are active. How wide is too wide depends on how many
directions the rows vary in, not on how many numbers an embedding has; and training takes a number of steps, not of
epochs.

Legend: N training rows, D embedding dimension.
"""

from collections.abc import Mapping
from math import log2
from typing import Any, NamedTuple

import numpy as np

from medsae_ray.core.sae.rules import CHOSEN
from medsae_ray.errors import DatasetError, RecipeError

SAMPLE = 4_096
"""Training rows that the directions are counted on, at most."""
FEATURES_PER_DIRECTION = 5
ROWS_PER_DIRECTION = 40
"""With fewer rows the features are fewer too, by the square root of what is missing."""
ROWS_PER_FEATURE, IN_A_TAIL = 3, 12
"""At least; the second number where the variance has a long tail, as embeddings of photographs have: what lies beyond
the first directions is then learnt by heart."""
LONG_TAIL = 2.0
"""Principal components that hold `MOST` of the variance, per direction, from which it has one. Drawn images and planted
rows have 1.0 to 1.5, ImageNet's MobileNetV2 on radiographs 2.7 and 3.4."""
MOST = 0.9
WIDTHS = (16, 8_192)
KS = (8, 32)
FEATURES_PER_ACTIVE = 32
FEWEST_PER_ACTIVE = 4
BATCHES = (6, 12, 24, 48, 96, 192, 384, 768)
"""Each from the third on can be shared by 1, 2, 3, 4, 6, 8, 12 or 24 workers."""
STEPS_PER_EPOCH = 32
"""At least, where rows are enough for it."""
STEPS = 1_000
EPOCHS = (10, 350)
RATE = 6e-3


class Spread(NamedTuple):
    """How rows vary."""

    directions: float
    """In how many directions: the participation ratio (sum of v)^2 / sum of v^2 of the covariance's eigenvalues v, from
    1 to the smaller of N - 1 and D. 1 if they do not vary, or are not finite."""
    long_tail: bool = False
    """Whether `MOST` of the variance takes many more components than that."""


def spread(x_ND: np.ndarray) -> Spread:
    """How rows vary."""
    x_ND = np.asarray(x_ND, dtype=np.float64)
    x_ND = x_ND - x_ND.mean(axis=0)
    products = x_ND @ x_ND.T if len(x_ND) < x_ND.shape[1] else x_ND.T @ x_ND
    total, squares = float(np.trace(products)), float(np.square(products).sum())
    if not np.isfinite(squares) or squares <= 0:
        return Spread(1.0)
    found = max(1.0, total**2 / squares)
    held = np.cumsum(np.linalg.eigvalsh(products)[::-1]) / total
    return Spread(found, bool(np.searchsorted(held, MOST) + 1 >= LONG_TAIL * found))


def choose(settings: Mapping[str, Any], rows: int, varies: Spread) -> dict[str, Any]:
    """`settings` of a recipe with numbers for those of `CHOSEN` that are None, which go with the ones that are given,
    for `rows` training rows with such a spread.

    A function of its arguments alone, so that giving what was chosen makes the same SAE. DatasetError without rows.
    """
    if rows < 1:
        raise DatasetError("sae: there is no training row to choose settings by; use more patients or another split")
    found = dict(settings)
    if found["width"] is None:
        found["width"] = max(_width(rows, varies), _needed(found))
    if "k" in open_settings(found):
        width = found["width"]
        found["k"] = max(1, min(width // FEWEST_PER_ACTIVE, max(KS[0], width // FEATURES_PER_ACTIVE), KS[1]))
    if found["batch_size"] is None:
        found["batch_size"] = _batch(rows)
    if found["epochs"] is None:
        found["epochs"] = min(EPOCHS[1], max(EPOCHS[0], -(-STEPS // max(1, rows // found["batch_size"]))))
    if found["lr"] is None:
        found["lr"] = RATE
    return found


def open_settings(settings: Mapping[str, Any]) -> list[str]:
    """What `choose` would choose, in the order of the recipe."""
    given = {"k"} if settings.get("ks") else set()
    return [name for name, value in settings.items() if name in CHOSEN - given and value is None]


def check_fits(rows: int, settings: Mapping[str, Any], workers: int = 1) -> None:
    """RecipeError for a batch, given or chosen, that so many training rows cannot fill or workers cannot share."""
    batch = settings["batch_size"]
    if batch is None:
        batch = _batch(rows)
    if batch > rows:
        raise RecipeError(
            f"sae: batch_size = {batch} is above the {rows} training rows; give {_batch(rows)}, or leave it out"
        )
    if batch % workers:
        near = max(workers, batch // workers * workers)
        raise RecipeError(
            f"sae: batch_size = {batch} cannot be split over {workers} workers; "
            f"use {near}, or a number of workers that divides it"
        )


def _batch(rows: int) -> int:
    most = min(rows, max(BATCHES[3], rows // STEPS_PER_EPOCH))
    return max((batch for batch in BATCHES if batch <= most), default=max(1, rows))


def _width(rows: int, varies: Spread) -> int:
    """The nearest power of two."""
    enough = min(1.0, rows / (ROWS_PER_DIRECTION * varies.directions))
    most = rows / (IN_A_TAIL if varies.long_tail else ROWS_PER_FEATURE)
    wanted = min(FEATURES_PER_DIRECTION * varies.directions * enough**0.5, most)
    return min(WIDTHS[1], max(WIDTHS[0], 1 << max(0, round(log2(max(1.0, wanted))))))


def _needed(settings: Mapping[str, Any]) -> int:
    """The least width that goes with what is given."""
    return max(FEWEST_PER_ACTIVE * (settings.get("k") or 0), int(settings.get("target_l0") or 0) + 1)
