"""The default grid of a sweep: SAEs around one whose settings fit the training rows.

The width and the sparsity of that SAE are halved, kept and doubled, each with each. SAIL (arXiv 2603.23794) tries four
widths with eight sparsities for every encoder alike; here the middle of the grid follows from the number of training
rows and of the directions in which they vary (defaults.py).
"""

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from medsae_ray.core.sae.defaults import FEWEST_PER_ACTIVE, WIDTHS

FACTORS = (0.5, 1.0, 2.0)


def default_grid(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the changes to `settings`, in which no number is left open, of every SAE to try: nine at most.

    Those that no SAE can have, such as too many active features for a width, are left out.
    """
    found = []
    for wide, dense in product(FACTORS, FACTORS):
        changes = {**_width(settings, wide), **_sparsity(settings, dense)}
        if _possible({**settings, **changes}) and changes not in found:
            found.append(changes)
    return found


def _width(settings: Mapping[str, Any], factor: float) -> dict[str, Any]:
    if levels := settings.get("levels"):
        scaled = list(dict.fromkeys(max(2, round(level * factor)) for level in levels))
        return {"levels": scaled, "width": scaled[-1]}
    return {"width": max(WIDTHS[0], round(settings["width"] * factor))}


def _sparsity(settings: Mapping[str, Any], factor: float) -> dict[str, Any]:
    """Scale what decides the number of active features; a weight of a penalty is scaled inversely."""
    if settings.get("ks"):
        return {"ks": [max(1, round(k * factor)) for k in settings["ks"]]}
    for name in ("k", "target_l0"):
        if settings.get(name):
            return {name: max(1, round(settings[name] * factor))}
    name = "l1" if "l1" in settings else "l0"
    return {name: settings[name] / factor}


def _possible(settings: Mapping[str, Any]) -> bool:
    return all(FEWEST_PER_ACTIVE * active <= width for active, width in _loads(settings))


def _loads(settings: Mapping[str, Any]) -> Iterator[tuple[float, int]]:
    """Yield active features and the width that they have to fit into."""
    if settings.get("ks"):
        yield from zip(settings["ks"], settings["levels"], strict=False)
    yield settings.get("k") or settings.get("target_l0") or 0, settings["width"]
