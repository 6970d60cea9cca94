"""The sparse autoencoder that every architecture shares.

Legend: N images, B images of a batch, D embedding dimension, M features, J dead features, L levels of a Matryoshka SAE
(no such axis elsewhere), S the entries of a code that may be non-zero (see support.py).
Conventions are those of SAELens: h = (x - b_dec) W_enc + b_enc, x_hat = z W_dec + b_dec, on normalised x.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.matmul import Dtype, product_into, uses_memory
from medsae_ray.core.sae.normalise import Normalisation, Normaliser
from medsae_ray.core.sae.sparse_support import AffineEncoder, Support


class Losses(NamedTuple):
    """The losses of one training step: the objective, its parts without their weights, and the features that fired."""

    total: Tensor
    """The objective []."""
    mse: Tensor
    """The squared error in normalised space, summed over D, mean over B and, with levels, over L []."""
    sparsity: Tensor
    """The L1 norm of a code (gated: of its gates; jumprelu: number of active features), mean over B []."""
    auxk: Tensor
    """The auxiliary loss []: the share of the residual's variance that dead features leave unexplained (gated: the
    squared error of the gates' own reconstruction); 0 without one."""
    fired_M: Tensor
    """True for a feature that is active on some row."""


class SAE(Normaliser, ABC):
    """An SAE with parameters W_enc [D, M], b_enc [M], W_dec [M, D], b_dec [D]; for buffers see normalise.py.

    Rows of W_dec have unit norm, so that a feature's activation is its length in normalised space and the L1 norm
    cannot be lowered by growing the decoder. `fit` keeps them so, as the standard trainer of dictionary_learning
    (saprmarks), which MedSAE uses, does. W_enc starts as the transpose of W_dec, and lies in memory feature by feature
    as W_dec does, so that the gradient of a few features touches few places.
    """

    def __init__(self, config: SAEConfig, normalisation: Normalisation) -> None:
        super().__init__(normalisation, config.normalisation)
        generator = torch.Generator().manual_seed(config.seed)
        W_dec = F.normalize(torch.randn(config.width, config.d_in, generator=generator), dim=1)
        self.width = config.width
        self.W_enc = nn.Parameter(W_dec.clone().T)
        self.b_enc: Tensor | None = nn.Parameter(torch.zeros(config.width))
        self.W_dec: Tensor = nn.Parameter(W_dec)
        self.b_dec = nn.Parameter(torch.zeros(config.d_in))
        self.ranks = Ranks()
        self.low: Dtype = None
        """The dtype to which factors of large products are rounded in training."""
        self.scratch: Tensor | None = None
        """The memory of the last step's h, reused: new memory of this size costs as much as filling it."""

    def encode(self, x_ND: Tensor) -> Tensor:
        """Encode raw embeddings as activations z_NM >= 0, each row by itself.

        Raises ValueError for another shape or kind of number.
        """
        check_rows(x_ND, self.W_dec.shape[1], "embeddings", "dimension")
        return self.activate(self.pre_activations(self.normalise(x_ND)))

    def decode(self, z_NM: Tensor) -> Tensor:
        """Decode activations to raw embeddings; with normalisation l2 of unit norm, as no activation holds the norm.

        Raises ValueError for another shape or kind of number.
        """
        check_rows(z_NM, self.width, "activations", "feature")
        return self.denormalise(self.reconstruct(z_NM))

    def forward(self, x_BD: Tensor, dead_J: Tensor | None = None) -> Losses:
        """Compute the losses of a training batch of raw embeddings; `dead_J` holds the indices of dead features.

        With several ranks each has its share of the global batch, and the mean of `total` (and of its gradient) over
        ranks is that of the global batch.
        """
        x_BD = self.normalise(x_BD)
        with torch.no_grad():
            h_BM = self._h(x_BD)
            support = self.support(h_BM)
            dead = self._dead(h_BM, dead_J)
        h_S = support.pick(h_BM, x_BD, AffineEncoder(self.W_enc, self.b_enc, self.b_dec), self.low)
        return self.losses(x_BD, h_S, support, dead)

    def losses(self, x_BD: Tensor, h_S: Tensor, support: Support, dead: "Dead | None") -> Losses:
        """Compute the losses from the pre-activations at the support; `dead` is None if no feature is dead."""
        z_S = self.code(h_S, support)
        residual_LBD = x_BD - self.decoded(z_S, support)
        mse = residual_LBD.square().sum(-1).mean()
        sparsity = self.sparsity(h_S, z_S, support)
        auxk = self.auxiliary(x_BD, residual_LBD.detach(), dead)
        return Losses(self.objective(mse, sparsity, auxk), mse, sparsity, auxk, support.fired(z_S.detach()))

    def pre_activations(self, x_ND: Tensor) -> Tensor:
        """Compute h_NM of normalised embeddings. b_dec is folded into the bias: same gradients, one product fewer."""
        return torch.addmm(self._bias(), x_ND, self.W_enc)

    def reconstruct(self, z_NM: Tensor) -> Tensor:
        """Decode activations to normalised embeddings."""
        return torch.addmm(self.b_dec, z_NM, self.W_dec)

    @abstractmethod
    def activate(self, h_NM: Tensor) -> Tensor:
        """Return z of h at inference, each row by itself."""

    @abstractmethod
    def support(self, h_BM: Tensor) -> Support:
        """Select the entries of h that training needs; may depend on the whole batch."""

    @abstractmethod
    def code(self, h_S: Tensor, support: Support) -> Tensor:
        """Return z of h at the support, in training."""

    def select(self, h_BM: Tensor) -> Tensor:
        """Return z of h in training, without gradients; with levels [L * B, M]."""
        with torch.no_grad():
            support = self.support(h_BM)
            encoder = AffineEncoder(self.W_enc, self.b_enc, self.b_dec)
            return support.dense(self.code(support.pick(h_BM.clone(), h_BM, encoder), support))

    def decoded(self, z_S: Tensor, support: Support) -> Tensor:
        """Decode z at the support to normalised embeddings [L, B, D]."""
        return support.decode(z_S, self.W_dec, self.low) + self.b_dec

    def sparsity(self, h_S: Tensor, z_S: Tensor, support: Support) -> Tensor:
        """Compute the mean over B of the norm that is reported, and minimised by some architectures."""
        return z_S.sum() / support.images

    def auxiliary(self, x_BD: Tensor, residual_LBD: Tensor, dead: "Dead | None") -> Tensor:
        """Compute a loss that revives dead features; 0 by default. `residual_LBD` carries no gradient."""
        return residual_LBD.new_zeros(())

    @abstractmethod
    def objective(self, mse: Tensor, sparsity: Tensor, auxk: Tensor) -> Tensor:
        """Combine the losses into the one that is minimised."""

    @torch.no_grad()
    def project_decoder_gradient(self) -> None:
        """Remove from each decoder row's gradient the part along the row, which `normalise_decoder` would undo."""
        gradient = self.W_dec.grad
        if gradient is not None:
            along_M = torch.linalg.vecdot(gradient, self.W_dec)
            gradient.addcmul_(along_M[:, None], self.W_dec, value=-1)

    @torch.no_grad()
    def normalise_decoder(self) -> None:
        """Bring decoder rows back to unit norm."""
        self.W_dec.div_(self.W_dec.norm(dim=1, keepdim=True))

    @torch.no_grad()
    def stretch(self, factor: float) -> None:
        """Make an untrained SAE's codes longer by a factor above 0."""
        self.W_enc.mul_(factor)
        if self.b_enc is not None:
            self.b_enc.mul_(factor)

    def silence(self, h_M: Tensor) -> None:
        """Limit each feature of an untrained SAE to activity where its h is above its value; only architectures that
        learn sparsity implement it."""
        raise NotImplementedError

    def finish_step(self) -> None:
        """Bring parameters back into their allowed range, after the optimiser's step."""
        self.normalise_decoder()

    def _bias(self) -> Tensor:
        folded_M = self.b_dec @ self.W_enc
        return -folded_M if self.b_enc is None else self.b_enc - folded_M

    def _h(self, x_BD: Tensor) -> Tensor:
        shape = (len(x_BD), self.width)
        if not uses_memory(x_BD.device, self.low):
            self.scratch = None
        elif self.scratch is None or self.scratch.shape != shape or self.scratch.dtype != x_BD.dtype:
            self.scratch = torch.empty(shape, dtype=x_BD.dtype, device=x_BD.device)
        return product_into(self.scratch, x_BD, self.W_enc, self._bias(), self.low).detach()

    def _dead(self, h_BM: Tensor, dead_J: Tensor | None) -> "Dead | None":
        return None if dead_J is None or len(dead_J) == 0 else Dead(dead_J, h_BM[:, dead_J])


def check_rows(values: Tensor, columns: int, what: str, column: str) -> None:
    """Raise ValueError unless `values` are floating point numbers in rows of so many columns."""
    wanted = f"floating point numbers [rows, {columns}] are wanted, one {column} a column"
    found = f"{what} are {str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
    if values.ndim == 1 and len(values) == columns:
        raise ValueError(f"{found}; {wanted}. One row is x[None]")
    if values.ndim != 2 or values.shape[1] != columns or not values.is_floating_point():
        raise ValueError(f"{found}; {wanted}")


class Dead(NamedTuple):
    """The features that have been inactive for `dead_after_epochs`."""

    dead_J: Tensor
    """The indices of these features."""
    h_BJ: Tensor
    """The pre-activations of these features, without gradients."""
