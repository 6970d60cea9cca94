"""Whether the images that callers send become other ones: counts over the last uploads beside the run's own.

No image, embedding or activation is kept. Uploads are counted in blocks, of which the oldest is dropped as a whole.

Legend: F features.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from medsae_ray.core.analysis.false_discovery import benjamini_hochberg
from medsae_ray.core.analysis.values import Floats, Ints
from medsae_ray.core.naming.scores import wilson

BLOCKS = 10
FEW = 20
"""The fewest uploads with figures: those of fewer would be about single images."""


@dataclass
class Counts:
    """Counts over some uploads."""

    active_F: Ints
    """The uploads on which each feature is active."""
    uploads: int = 0
    judged: int = 0
    """The uploads of which it is known whether they are unlike the run."""
    unlike: int = 0

    def add(self, features: Sequence[int], unlike: bool | None) -> None:
        """Count one upload."""
        self.active_F[features] += 1
        self.uploads += 1
        self.judged += unlike is not None
        self.unlike += bool(unlike)

    def plus(self, other: "Counts") -> "Counts":
        """Return the counts over both."""
        own = (self.active_F + other.active_F, self.uploads + other.uploads)
        return Counts(*own, self.judged + other.judged, self.unlike + other.unlike)


class Drift:
    """Counts over the last uploads, between nine tenths of `window` and all of it. Several threads may use it."""

    def __init__(self, features: int, window: int) -> None:
        self.window = window
        self._features, self._size = features, max(1, window // BLOCKS)
        self._blocks: deque[Counts] = deque(maxlen=BLOCKS)
        self._lock = threading.Lock()

    def add(self, features: Sequence[int], unlike: bool | None) -> None:
        """Count an upload by its active features and its flag, which may be unknown."""
        with self._lock:
            if not self._blocks or self._blocks[-1].uploads >= self._size:
                self._blocks.append(self._none())
            self._blocks[-1].add(features, unlike)

    def counts(self) -> Counts:
        """Return the counts over the window."""
        with self._lock:
            total = self._none()
            for block in self._blocks:
                total = total.plus(block)
            return total

    def _none(self) -> Counts:
        return Counts(np.zeros(self._features, np.int64))


def unlike_figures(counts: Counts, level: float | None) -> dict[str, Any]:
    """Return the share of unlike uploads with its 95 % interval, beside the share that is expected of new patients."""
    known = counts.judged >= FEW
    low, high = wilson(counts.unlike, counts.judged) if known else (None, None)
    share = counts.unlike / counts.judged if known else None
    expected = None if level is None else 1 - level
    return {"judged": counts.judged, "share": share, "low": low, "high": high, "expected": expected}


def shifts(counts: Counts, rate_F: Floats, most: int) -> list[dict[str, Any]]:
    """Return the features whose rate among uploads differs most from the run's, with its interval and q, the false
    discovery rate of exact binomial tests over all features; nothing for few uploads."""
    n = counts.uploads
    if n < FEW:
        return []
    below_F = stats.binom.cdf(counts.active_F, n, rate_F)
    above_F = stats.binom.sf(counts.active_F - 1, n, rate_F)
    q_F = benjamini_hochberg(np.minimum(1.0, 2 * np.minimum(below_F, above_F)))
    shift_F = np.abs(counts.active_F / n - rate_F)
    rows = []
    for feature in np.lexsort((-shift_F, q_F))[:most].tolist():
        low, high = wilson(int(counts.active_F[feature]), n)
        rate = {"run_rate": float(rate_F[feature]), "rate": float(counts.active_F[feature] / n)}
        rows.append({"feature": feature, **rate, "low": low, "high": high, "q": float(q_F[feature])})
    return rows
