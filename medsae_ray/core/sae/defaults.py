"""The settings of an SAE that follow from its training rows, unless a recipe gives them.

Measured in benchmarks/2026-11-28-sae-defaults.md. A dictionary that is wide for its rows overfits single rows: most
features stay inactive, and on other rows far more than k are active. The right width depends on the number of
directions in which the rows vary, not on the dimension of an embedding; and training takes a number of steps, not of
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
"""The most training rows on which the directions are counted."""
FEATURES_PER_DIRECTION = 5
ROWS_PER_DIRECTION = 40
"""The rows per direction for the full width; with fewer rows the width shrinks by the square root of the shortage."""
ROWS_PER_FEATURE, IN_A_TAIL = 3, 12
"""The fewest rows per feature; the second number if the variance has a long tail, as that of photographs' embeddings,
whose dimensions beyond the first directions are overfitted."""
LONG_TAIL = 2.0
"""The ratio of the principal components that hold `MOST` of the variance to the directions that makes a long tail.
Drawn images and planted rows have 1.0 to 1.5, ImageNet's MobileNetV2 on radiographs 2.7 and 3.4."""
MOST = 0.9
WIDTHS = (16, 8_192)
KS = (8, 32)
FEATURES_PER_ACTIVE = 32
FEWEST_PER_ACTIVE = 4
BATCHES = (6, 12, 24, 48, 96, 192, 384, 768)
"""The batch sizes; from the third on 1, 2, 3, 4, 6, 8, 12 or 24 workers can share each."""
STEPS_PER_EPOCH = 32
"""The least steps per epoch, with enough rows."""
STEPS = 1_000
EPOCHS = (10, 350)
RATE = 6e-3


class Spread(NamedTuple):
    """The variation of rows."""

    directions: float
    """The number of directions: the participation ratio (sum of v)^2 / sum of v^2 of the covariance's eigenvalues v,
    from 1 to the smaller of N - 1 and D. 1 if the rows do not vary, or are not finite."""
    long_tail: bool = False
    """True if `MOST` of the variance takes many more components than `directions`."""


def spread(x_ND: np.ndarray) -> Spread:
    """Measure the variation of rows."""
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
    """Return a recipe's `settings` with numbers for those of `CHOSEN` that are None, which fit the given ones, for
    `rows` training rows of this spread.

    The same arguments always give the same numbers. Raises DatasetError without rows.
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
    """Return the names of the settings that `choose` would choose, in the order of the recipe."""
    given = {"k"} if settings.get("ks") else set()
    return [name for name, value in settings.items() if name in CHOSEN - given and value is None]


def check_fits(rows: int, settings: Mapping[str, Any], workers: int = 1) -> None:
    """Raise RecipeError for a batch, given or chosen, that so many rows cannot fill or workers cannot share."""
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
    """Return the nearest power of two."""
    enough = min(1.0, rows / (ROWS_PER_DIRECTION * varies.directions))
    most = rows / (IN_A_TAIL if varies.long_tail else ROWS_PER_FEATURE)
    wanted = min(FEATURES_PER_DIRECTION * varies.directions * enough**0.5, most)
    return min(WIDTHS[1], max(WIDTHS[0], 1 << max(0, round(log2(max(1.0, wanted))))))


def _needed(settings: Mapping[str, Any]) -> int:
    """Return the least width that fits the given settings."""
    return max(FEWEST_PER_ACTIVE * (settings.get("k") or 0), int(settings.get("target_l0") or 0) + 1)
