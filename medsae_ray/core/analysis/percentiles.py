"""The percentile of one activation among a feature's own, from the histogram that the run keeps of them."""

from collections.abc import Sequence

import numpy as np

from medsae_ray.core.analysis.units import HISTOGRAM_LOG2


def percentile(histogram: Sequence[int], largest: float, value: float) -> float:
    """Return the share of the images that activate the feature on which it is weaker, from 0 to 100.

    `histogram` counts the activations in bins of equal log2 width over HISTOGRAM_LOG2, `largest` is the largest of
    them. Within a bin they count as evenly spread over log2; the highest bin in use ends at `largest`.
    """
    count_B = np.asarray(histogram, dtype=np.int64)
    if not count_B.any() or value <= 0:
        return 0.0
    if value >= largest:
        return 100.0
    edges = np.linspace(*HISTOGRAM_LOG2, len(count_B) + 1)[: int(np.flatnonzero(count_B)[-1]) + 2]
    edges[-1] = max(np.log2(largest), edges[-2])
    below = np.concatenate([[0], np.cumsum(count_B[: len(edges) - 1])])
    return float(100 * np.interp(np.log2(value), edges, below) / below[-1])
