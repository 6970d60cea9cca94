"""The SAE of SAIL as published (github.com/pwesp/sail, src/matryoshka_sae.py), for comparisons with its results.

The method is matryoshka with selection per_level. The code departs from its paper, and so does this class. The decoder
is the encoder's transpose and sends it no gradient. The largest h of a batch are kept even if they are negative.
Inference subtracts the threshold, z = relu(h - threshold); the threshold is the mean over all batches of the smallest
positive h that was kept. Dead features are not revived. Rows have unit norm at the start only. The squared error is a
mean over D there and a sum here, to which Adam is invariant.

Legend: see model.py.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.matryoshka import MatryoshkaPerLevel
from medsae_ray.core.sae.model import Dead
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.select import fixed_lengths, keeping, largest, smallest_kept
from medsae_ray.core.sae.sparse_support import Pairs, Support


class Sail(MatryoshkaPerLevel):
    """An SAE with parameters W_enc, b_enc, b_dec; buffers W_dec (a copy of W_enc.T), threshold and batches []."""

    calibrates = False

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        self.resamples = False
        del self.W_dec
        generator = torch.Generator().manual_seed(config.seed)
        W_MD = F.normalize(torch.rand(config.width, config.d_in, generator=generator) * 2 - 1, dim=1)
        self.register_buffer("W_dec", W_MD)
        self.register_buffer("batches", torch.tensor(0.0))
        self.W_enc.data.copy_(W_MD.T)

    def begin_epoch(self) -> None:
        """Keep the mean: it is over all batches of all epochs."""

    def activate(self, h_NM: Tensor) -> Tensor:
        """Return relu(h - threshold) [N, M]."""
        return (h_NM - self.threshold).relu()

    def top(self, h_BM: Tensor, k: int) -> tuple[Pairs, Tensor]:
        """Select the k largest entries per row of the global batch, even negative ones, and the smallest positive one
        kept []."""
        n = k * len(h_BM) * self.ranks.world
        found = largest(h_BM, n, positive=False)
        floor = smallest_kept(found.values_A, n, self.ranks, positive=False)
        found = keeping(found, found.values_A >= floor)
        positive_A = torch.where(found.values_A > 0, found.values_A, torch.inf)
        smallest = self.ranks.least(torch.cat([positive_A, positive_A.new_full((1,), torch.inf)]).amin())
        return Pairs(*found, (len(h_BM), h_BM.shape[1])), smallest

    def track(self, floor: Tensor) -> None:
        """Add `floor` [] to the mean over all batches that is the threshold; an infinite one does not count."""
        counts = floor.isfinite()
        self.batches += counts
        moved = self.threshold + (floor - self.threshold) / self.batches.clamp_min(1)
        self.threshold.copy_(torch.where(counts, moved, self.threshold))

    def code(self, h_S: Tensor, support: Support) -> Tensor:
        """Return h unchanged: in training the threshold is not subtracted. With `fixed_lengths` h is 0 where it was not
        kept, and gets no gradient there."""
        return h_S * (h_S.detach() != 0) if fixed_lengths(h_S.device) else h_S

    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """Return mse: there is no other loss."""
        return mse

    def project_decoder_gradient(self) -> None:
        """Do nothing: the decoder gets no gradient."""

    @torch.no_grad()
    def finish_step(self) -> None:
        """Copy the encoder's transpose into the decoder, whose rows are not normalised."""
        self.W_dec.copy_(self.W_enc.T)

    def _dead(self, h_BM: Tensor, dead_J: Tensor | None) -> Dead | None:
        return None
