"""The choice of one SAE of a sweep, from figures of patients on which no result is reported.

Three thoughts meet here. An SAE that reconstructs worse than another with as few active features has nothing for it, so
only those near the front of FVU and L0 are taken. Nor has one whose ten best features carry less than another's. Among
the others decides the mean of SAIL's two ranks (arXiv 2603.23794): by the monosemanticity of the best features, and by
the number of features that targets need. Without targets none of these is known, and the knee of the front decides.

Legend: S SAEs.
"""

from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata

NEAR = 1.05
"""The ratio up to which L0 counts as the same."""
WORSE = 1.02
"""The most that an SAE's FVU may be of the least at its L0, and the best recovery of its own, as ratios. Tighter than
what is promised of other patients."""


class Figures(NamedTuple):
    """The figures of one SAE, on patients that it was not trained on."""

    l0: float
    fvu: float
    monosemanticity: float
    """The mean C x S of its ten best features; NaN if unknown."""
    needed: float
    """The mean number of features that reach a share of the dense probe's AUROC; NaN if unknown."""
    at_ten: float
    """The mean share of the dense probe's AUROC above chance that ten features have; NaN if unknown."""


def mean_ranks(found: list[Figures]) -> np.ndarray:
    """Return the mean [S] of two ranks, 1 the best; ties share their mean rank, and an unknown figure ranks last."""
    costs = np.array([(-f.monosemanticity, f.needed) for f in found]).reshape(-1, 2)
    ranks: np.ndarray = rankdata(np.where(np.isnan(costs), np.inf, costs), axis=0).mean(axis=1)
    return ranks


def near_front(found: list[Figures]) -> np.ndarray:
    """Return a mask [S] of the SAEs whose FVU is at most `WORSE` times the least at their L0 or below.

    Two SAEs of one k differ in L0 by chance, so an L0 of up to `NEAR` times counts as no higher.
    """
    least = [min(other.fvu for other in found if other.l0 <= NEAR * f.l0) for f in found]
    return np.array([f.fvu <= WORSE * best for f, best in zip(found, least, strict=True)])


def best(found: list[Figures]) -> int:
    """Return the place of the SAE to take; ties go to the smaller L0, then to the earlier place."""
    candidates = _recovering(found, np.flatnonzero(near_front(found)).tolist())
    if all(np.isnan(found[i].monosemanticity) and np.isnan(found[i].needed) for i in candidates):
        return _knee(found, candidates)
    ranks = mean_ranks([found[i] for i in candidates])
    return int(min(zip(ranks, (found[i].l0 for i in candidates), candidates, strict=True))[2])


def _recovering(found: list[Figures], candidates: list[int]) -> list[int]:
    """Return the candidates whose recovery at ten is near the best of theirs; all of them if it is unknown."""
    most = np.nanmax([-np.inf, *(found[i].at_ten for i in candidates)])
    return [i for i in candidates if not found[i].at_ten < min(most, most / WORSE)]


def _knee(found: list[Figures], candidates: list[int]) -> int:
    """Return the candidate farthest below the line between the ends, in log L0 and FVU, each scaled to 0 to 1."""
    points = np.array([(np.log(max(found[i].l0, 1e-9)), found[i].fvu) for i in candidates])
    span = np.ptp(points, axis=0)
    scaled = (points - points.min(axis=0)) / np.where(span > 0, span, 1)
    return candidates[int(np.argmin(scaled.sum(axis=1)))]
