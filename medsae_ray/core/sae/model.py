"""The sparse autoencoder that every architecture shares.

Legend: N images, B images of a batch, D embedding dimension, M features, J dead features.
Conventions are those of SAELens: h = (x - b_dec) W_enc + b_enc, x_hat = z W_dec + b_dec, on normalised x.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.ranks import Ranks


class Losses(NamedTuple):
    """One training step: what is minimised, its parts without their weights, and the features that fired."""

    total: Tensor
    """What is minimised []."""
    mse: Tensor
    """Squared error in normalised space, summed over D, mean over B []."""
    sparsity: Tensor
    """L1 norm of a code, mean over B []."""
    auxk: Tensor
    """Share of the residual's variance that dead features leave unexplained []; 0 where that loss is not used."""
    fired_M: Tensor
    """True where a feature is active on some row."""


class SAE(nn.Module, ABC):
    """Parameters W_enc [D, M], b_enc [M], W_dec [M, D], b_dec [D]; buffers mean [D], scale [] and,
    if the embeddings are whitened, there [D, D] and its inverse back [D, D].

    Rows of W_dec have unit norm, so that a feature's activation is its length in normalised space and the L1 norm
    cannot be lowered by growing the decoder. `fit` keeps them so, as the standard trainer of dictionary_learning
    (saprmarks), which MedSAE uses, does. W_enc starts as the transpose of W_dec.
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(config.seed)
        W_dec = F.normalize(torch.randn(config.width, config.d_in, generator=generator), dim=1)
        self.W_enc = nn.Parameter(W_dec.T.contiguous())
        self.b_enc = nn.Parameter(torch.zeros(config.width))
        self.W_dec = nn.Parameter(W_dec)
        self.b_dec = nn.Parameter(torch.zeros(config.d_in))
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", normalisation.mean_D.float())
        self.register_buffer("scale", torch.tensor(normalisation.scale, dtype=torch.float32))
        self.there: Tensor | None
        self.back: Tensor | None
        whitening = normalisation.whitening
        self.register_buffer("there", None if whitening is None else whitening.there_DD.float())
        self.register_buffer("back", None if whitening is None else whitening.back_DD.float())
        self.ranks = Ranks()

    def normalise(self, x_ND: Tensor) -> Tensor:
        """Raw embeddings -> normalised embeddings."""
        scaled_ND = (x_ND - self.mean) * self.scale
        return scaled_ND if self.there is None else scaled_ND @ self.there

    def unwhiten(self, x_ND: Tensor) -> Tensor:
        """Normalised embeddings, or differences of them -> centred and scaled only, where errors are measured."""
        return x_ND if self.back is None else x_ND @ self.back

    def encode(self, x_ND: Tensor) -> Tensor:
        """Raw embeddings -> activations z_NM >= 0, each row by itself."""
        return self.activate(self.pre_activations(self.normalise(x_ND)))

    def decode(self, z_NM: Tensor) -> Tensor:
        """Activations -> raw embeddings."""
        return self.unwhiten(self.reconstruct(z_NM)) / self.scale + self.mean

    def forward(self, x_BD: Tensor, dead_J: Tensor | None = None) -> Losses:
        """The losses of a training batch of raw embeddings; `dead_J` holds the indices of dead features.

        With several ranks each has its share of the global batch, and the mean of `total` (and of its gradient) over
        ranks is that of the global batch.
        """
        x_BD = self.normalise(x_BD)
        h_BM = self.pre_activations(x_BD)
        z_BM = self.select(h_BM)
        residual_BD = x_BD - self.reconstruct(z_BM)
        mse = residual_BD.square().sum(1).mean()
        sparsity = z_BM.sum(1).mean()
        auxk = self.auxiliary(h_BM, residual_BD.detach(), dead_J)
        return Losses(self.objective(mse, sparsity, auxk), mse, sparsity, auxk, (z_BM > 0).any(0))

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """Normalised embeddings -> h_NM. b_dec is folded into the bias: the same gradients with one product fewer."""
        return torch.addmm(self.b_enc - self.b_dec @ self.W_enc, x_ND, self.W_enc)

    def reconstruct(self, z_NM: Tensor) -> Tensor:
        """Activations -> normalised embeddings."""
        return torch.addmm(self.b_dec, z_NM, self.W_dec)

    @abstractmethod
    def activate(self, h_NM: Tensor) -> Tensor:
        """h -> z at inference, each row by itself."""

    def select(self, h_BM: Tensor) -> Tensor:
        """h -> z in training; may look at the whole batch."""
        return self.activate(h_BM)

    def auxiliary(self, h_BM: Tensor, residual_BD: Tensor, dead_J: Tensor | None) -> Tensor:
        """A loss that revives dead features; none by default. `residual_BD` carries no gradient."""
        return h_BM.new_zeros(())

    @abstractmethod
    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """What is minimised."""

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Remove from each decoder row's gradient the part along the row, which `normalise_decoder` would undo."""
        gradient = self.W_dec.grad
        if gradient is not None:
            gradient -= (gradient * self.W_dec).sum(1, keepdim=True) * self.W_dec

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring decoder rows back to unit norm."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))
