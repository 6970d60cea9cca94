"""BatchTopK (Bussmann et al. 2024, arXiv 2412.06410): a batch keeps its k B largest features.

Legend: see model.py; n = k times the rows of the global batch.
"""

import torch
from torch import Tensor

from medsae_ray.core.sae.auxk import WithAuxK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import keeping, largest, smallest_kept
from medsae_ray.core.sae.sparse_support import Pairs

_MOMENTUM = 0.01
"""The least weight of the newest batch in the running threshold."""


class BatchTopK(WithAuxK):
    """An SAE that in training keeps the n largest positive h of the global batch, whichever rows they are in.

    At inference z = h * 1[h > threshold], so that a row's code does not depend on its neighbours. While it trains the
    buffer `threshold` [] is a running mean of the smallest h that batches of the epoch kept (0 before the first
    batch); `fit` then sets it so that k features per training row lie above it (threshold.py).
    """

    calibrates = True
    """True if `fit` sets the threshold by the training rows."""

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        self.k = config.k or 0
        self.threshold: Tensor
        self.register_buffer("threshold", torch.tensor(0.0))
        self.batches: Tensor
        self.register_buffer("batches", torch.tensor(0.0), persistent=False)

    def begin_epoch(self) -> None:
        """Forget the floors of earlier epochs: weights have moved, and an epoch may have one batch only."""
        self.batches.zero_()

    def activate(self, h_NM: Tensor) -> Tensor:
        """Return h where it exceeds the threshold, 0 elsewhere [N, M]."""
        # The threshold is never negative, so this is a ReLU too.
        return h_NM * (h_NM > self.threshold)

    def cut(self, h_NM: Tensor) -> Tensor:
        """Return the threshold, the same for every row [N]."""
        return self.threshold.expand(len(h_NM))

    def support(self, h_BM: Tensor) -> Pairs:
        """Select the n largest positive entries of the global batch; in training the threshold follows them."""
        pairs, floor = self.top(h_BM, self.k)
        if self.training:
            self.track(floor)
        return pairs

    def top(self, h_BM: Tensor, k: int) -> tuple[Pairs, Tensor]:
        """Select the n largest positive entries; return them and the smallest of them []."""
        n = k * len(h_BM) * self.ranks.world
        found = largest(h_BM, n)
        floor = smallest_kept(found.values_A, n, self.ranks)
        found = keeping(found, found.values_A >= floor)
        return Pairs(*found, (len(h_BM), h_BM.shape[1])), floor

    def track(self, floor: Tensor) -> None:
        """Move the running mean `threshold` towards `floor` []; an infinite one leaves it unchanged."""
        counts = floor.isfinite()
        self.batches += counts
        moved = self.threshold.lerp(floor, (1 / self.batches.clamp_min(1)).clamp_min(_MOMENTUM))
        self.threshold.copy_(torch.where(counts, moved, self.threshold))
