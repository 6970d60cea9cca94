"""How much of what a probe on all dimensions says a probe on n columns says, over targets.

Legend: T targets, B bootstrap draws.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from medsae_ray.core.analysis.values import Floats
from medsae_ray.errors import ArtifactError

DENSE = 0.6
"""The AUROC that a probe on all dimensions exceeds for its target to count, as in SAIL."""
DRAWS = 2000
SERVES = 10
"""The strongest features of a target that serve it."""


class Share(NamedTuple):
    """A share of means over targets, with its interval from a bootstrap over targets; NaN where not defined."""

    value: float
    low: float
    high: float


class Recovery(NamedTuple):
    """What n columns keep of all dimensions, over the targets that count."""

    targets: int
    auroc: float
    """The mean AUROC of n columns."""
    dense: float
    """That of all dimensions."""
    ratio: Share
    """SAIL's recovery, mean AUROC_n / mean AUROC_dense. That of a constant score is already 0.5 / dense."""
    above_chance: Share
    """(mean AUROC_n - 0.5) / (mean AUROC_dense - 0.5): 0 at chance, 1 if nothing is lost."""


def recovery(
    auroc_T: ArrayLike,
    dense_T: ArrayLike,
    level: float = 0.95,
    least: float = DENSE,
    draws: int = DRAWS,
    seed: int = 0,
) -> Recovery:
    """Return the recovery over the targets whose dense AUROC exceeds `least`; NaN on either side leaves a target out.

    Intervals are percentiles over `draws` samples of targets with replacement, and NaN with fewer than two targets.
    They do not depend on the order of targets. Raises ArtifactError if the two sides differ in length.
    """
    auroc_T, dense_T = np.asarray(auroc_T, dtype=np.float64), np.asarray(dense_T, dtype=np.float64)
    if auroc_T.shape != dense_T.shape or auroc_T.ndim != 1:
        raise ArtifactError(f"AUROCs of shape {auroc_T.shape} and of dense probes {dense_T.shape} do not match")
    counts = ~np.isnan(auroc_T) & (dense_T > least)
    pair_T2 = np.stack([auroc_T[counts], dense_T[counts]], axis=1)
    pair_T2 = pair_T2[np.lexsort(pair_T2.T)]
    if not len(pair_T2):
        nothing = Share(np.nan, np.nan, np.nan)
        return Recovery(0, np.nan, np.nan, nothing, nothing)
    mean_2 = pair_T2.mean(axis=0)
    drawn = np.random.default_rng(seed).integers(len(pair_T2), size=(draws, len(pair_T2)))
    mean_B2 = pair_T2[drawn].mean(axis=1) if len(pair_T2) > 1 else np.full((1, 2), np.nan)
    shares = (_share(mean_2 - chance, mean_B2 - chance, level) for chance in (0.0, 0.5))
    return Recovery(len(pair_T2), float(mean_2[0]), float(mean_2[1]), *shares)


def _share(mean_2: Floats, mean_B2: Floats, level: float) -> Share:
    low, high = np.quantile(mean_B2[:, 0] / mean_B2[:, 1], [0.5 - level / 2, 0.5 + level / 2])
    return Share(float(mean_2[0] / mean_2[1]), float(low), float(high))


def serves(rows: Iterable[Mapping[str, Any]]) -> dict[int, list[str]]:
    """Return feature -> the targets of whose `SERVES` strongest features it is one, from rows of stage `recovery`.

    Only targets count of which those features say something: the interval of their AUROC lies above 0.5.
    """
    longest: dict[str, Mapping[str, Any]] = {}
    for row in rows:
        if row["kind"] == "features" and row["n"] and longest.get(row["target"], {"n": 0})["n"] < row["n"] <= SERVES:
            longest[row["target"]] = row
    found: dict[int, list[str]] = {}
    for target, row in longest.items():
        for feature in row["columns"] if row["low"] is not None and row["low"] > 0.5 else ():
            found.setdefault(feature, []).append(target)
    return found


def headed_by(points: Iterable[Mapping[str, Any]]) -> int | None:
    """Return the size that stands for a curve: ten features, or the largest below; None without a curve of features."""
    sizes = sorted(point["n"] for point in points if point["kind"] == "features" and point["n"])
    return max((n for n in sizes if n <= SERVES), default=sizes[0] if sizes else None)
