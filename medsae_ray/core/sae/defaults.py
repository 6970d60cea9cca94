"""Settings of an SAE that follow from its training rows, where a recipe does not give them.

Measured in benchmarks/2026-11-28-sae-defaults.md. A dictionary that is wide for its rows learns single rows by heart:
most features stay silent, and on other rows far more than k are active. So the width grows with the rows, and training
takes a number of steps, not of epochs.
"""

from collections.abc import Mapping
from typing import Any

from medsae_ray.errors import DatasetError, RecipeError
from medsae_ray.sae_rules import CHOSEN

ROWS_PER_FEATURE = 4
WIDTHS = (16, 8192)
KS = (4, 32)
FEATURES_PER_ACTIVE = 8
BATCHES = (6, 12, 24, 48, 96, 192, 384, 768, 1536)
"""Each from the third on can be shared by 1, 2, 3, 4, 6, 8, 12 or 24 workers."""
STEPS_PER_EPOCH = 4
"""At least, where rows are enough for it."""
STEPS = 600
EPOCHS = 10
"""At least."""
RATE = 2e-3


def choose(settings: Mapping[str, Any], rows: int, dims: int) -> dict[str, Any]:
    """`settings` of a recipe with numbers for those of `CHOSEN` that are None, and go with the ones that are given.

    A function of its arguments alone, so that giving what was chosen makes the same SAE. DatasetError without rows.
    """
    if rows < 1:
        raise DatasetError("sae: there is no training row to choose settings by; use more patients or another split")
    found = dict(settings)
    if found["width"] is None:
        found["width"] = max(_width(rows, dims), _needed(found))
    if "k" in found and found["k"] is None and not found.get("ks"):
        found["k"] = max(1, min(KS[1], max(KS[0], found["width"] // FEATURES_PER_ACTIVE), found["width"]))
    if found["batch_size"] is None:
        found["batch_size"] = _batch(rows)
    if found["epochs"] is None:
        found["epochs"] = max(EPOCHS, -(-STEPS // max(1, rows // found["batch_size"])))
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
    most = min(rows, max(BATCHES[2], rows // STEPS_PER_EPOCH))
    return max((batch for batch in BATCHES if batch <= most), default=max(1, rows))


def _width(rows: int, dims: int) -> int:
    wanted = min(rows // ROWS_PER_FEATURE, 4 * dims)
    return max(WIDTHS[0], min(WIDTHS[1], 1 << max(0, wanted.bit_length() - 1)))


def _needed(settings: Mapping[str, Any]) -> int:
    """The least width that goes with what is given."""
    return max(settings.get("k") or 0, int(settings.get("target_l0") or 0) + 1)
