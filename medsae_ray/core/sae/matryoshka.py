"""Matryoshka BatchTopK (Bussmann et al. 2025, arXiv 2503.17547): nested dictionaries, each of which reconstructs alone.

Legend: see model.py; a level is a prefix of the dictionary.
"""

import torch
from torch import Tensor

from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.sparse_support import Pairs, Support


class Matryoshka(BatchTopK):
    """A BatchTopK whose code every prefix decodes; mse is the mean over prefixes.

    A prefix adds only its own features to the one before it, so all of them together cost one decoding. At inference
    the code is that of BatchTopK, and a prefix of it is the code of a prefix.
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.levels is not None
        self.levels = config.levels
        self.edges: Tensor
        self.register_buffer("edges", torch.tensor(config.levels), persistent=False)

    def support(self, h_BM: Tensor) -> Pairs:
        """Select the entries of BatchTopK, each in the row of the first level that has its feature."""
        pairs = super().support(h_BM)
        return pairs.regrouped(self._level(pairs), len(self.levels))

    def decoded(self, z_S: Tensor, support: Support) -> Tensor:
        """Reconstruct from every prefix [L, B, D]: the cumulative sum over the contributions of levels."""
        parts_RD = support.decode(z_S, self.W_dec, self.low)
        x_LBD: Tensor = parts_RD.unflatten(0, (len(self.levels), -1)).cumsum(0) + self.b_dec
        return x_LBD

    def _level(self, pairs: Pairs) -> Tensor:
        """Return the first level that has an entry's feature [A]."""
        return torch.bucketize(pairs.columns_A, self.edges, right=True)


class MatryoshkaPerLevel(BatchTopK):
    """An SAE with a BatchTopK of its own k for every prefix, as in SAIL (Wesp et al.); mse is the mean over prefixes.

    At inference the code is the last level's, with the threshold of that level.
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(config, normalisation)
        assert config.levels is not None
        assert config.ks is not None
        self.levels, self.ks = config.levels, config.ks
        self.k = config.ks[-1]

    def support(self, h_BM: Tensor) -> Pairs:
        """Select each level's own entries; in training the threshold follows those of the last level."""
        found = [self.top(h_BM[:, :level], k) for level, k in zip(self.levels, self.ks, strict=True)]
        if self.training:
            self.track(found[-1][1])
        return Pairs.stacked([pairs for pairs, _ in found])

    def decoded(self, z_S: Tensor, support: Support) -> Tensor:
        """Reconstruct from each level's own entries [L, B, D]."""
        x_LBD: Tensor = support.decode(z_S, self.W_dec, self.low).unflatten(0, (len(self.levels), -1)) + self.b_dec
        return x_LBD

    def sparsity(self, h_S: Tensor, z_S: Tensor, support: Support) -> Tensor:
        """Return the mean over levels of the norm."""
        return super().sparsity(h_S, z_S, support) / len(self.levels)
