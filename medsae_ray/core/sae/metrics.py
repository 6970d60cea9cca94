"""How well a sparse autoencoder reconstructs, as sums that merge over shards.

Legend: N images, D embedding dimension, M features. Errors are of centred and scaled embeddings,
whether the SAE works on whitened ones or not.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from medsae_ray.core.sae.model import SAE

_ROWS = 4_096


class ImageErrors(NamedTuple):
    """Per image, float64; FVU of any set of images is the ratio of the two sums over it."""

    sq_error_N: Tensor
    """||x - x_hat||^2."""
    sq_norm_N: Tensor
    """||x - training mean||^2."""


class Reconstruction(NamedTuple):
    """Sums over a set of images."""

    sq_error: float
    """Sum of ||x - x_hat||^2."""
    sq_norm: float
    """Sum of ||x - training mean||^2, the mean taken per dimension."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which has no use here
    """Images."""
    nnz: int
    """Active features, over all images."""
    fired_M: Tensor
    """True where a feature is active on some image."""

    @property
    def fvu(self) -> float:
        """Fraction of variance unexplained; NaN where there is no variance."""
        return self.sq_error / self.sq_norm if self.sq_norm > 0 else float("nan")

    @property
    def r2(self) -> float:
        """1 - FVU, against the per-dimension mean of the training rows."""
        return 1.0 - self.fvu

    @property
    def l0(self) -> float:
        """Mean number of active features; NaN without images."""
        return self.nnz / self.count if self.count else float("nan")

    @property
    def dead_share(self) -> float:
        """Share of features that are active on no image."""
        return 1.0 - float(self.fired_M.double().mean())

    def merge(self, other: Self) -> "Reconstruction":
        """The sums over both sets."""
        return Reconstruction(
            self.sq_error + other.sq_error,
            self.sq_norm + other.sq_norm,
            self.count + other.count,
            self.nnz + other.nnz,
            self.fired_M | other.fired_M,
        )


@torch.no_grad()
def image_errors(sae: SAE, x_ND: Tensor, z_NM: Tensor) -> ImageErrors:
    """Errors of the reconstructions from activations `z_NM` of raw embeddings `x_ND`."""
    residual_ND = sae.unwhiten(sae.normalise(x_ND) - sae.reconstruct(z_NM))
    return ImageErrors(residual_ND.double().square().sum(1), sae.centred(x_ND).double().square().sum(1))


@torch.no_grad()
def reconstruction(sae: SAE, x_ND: Tensor) -> Reconstruction:
    """Sums over raw embeddings, with the inference activations."""
    total = Reconstruction(0.0, 0.0, 0, 0, torch.zeros(sae.width, dtype=torch.bool, device=sae.b_dec.device))
    for part in x_ND.split(_ROWS):
        z_NM = sae.encode(part)
        errors = image_errors(sae, part, z_NM)
        active_NM = z_NM > 0
        total = total.merge(
            Reconstruction(
                float(errors.sq_error_N.sum()),
                float(errors.sq_norm_N.sum()),
                len(part),
                int(active_NM.sum()),
                active_NM.any(0),
            )
        )
    return total
