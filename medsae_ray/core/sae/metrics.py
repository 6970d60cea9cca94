"""The reconstruction of a sparse autoencoder, as sums that merge over shards.

Legend: N images, D embedding dimension, M features. Errors are of centred and scaled embeddings,
whether the SAE works on whitened ones or not.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn import functional as F

from medsae_ray.core.sae.model import SAE

_ROWS = 4_096


class ImageErrors(NamedTuple):
    """The errors per image, float64; FVU of any set of images is the ratio of their two sums."""

    sq_error_N: Tensor
    """The error ||x - x_hat||^2."""
    sq_norm_N: Tensor
    """The norm ||x - training mean||^2."""


class Reconstruction(NamedTuple):
    """The sums over a set of images."""

    sq_error: float
    """The sum of ||x - x_hat||^2."""
    sq_norm: float
    """The sum of ||x - training mean||^2, the mean taken per dimension."""
    count: int  # type: ignore[assignment]  # hides tuple.count, which has no use here
    """The number of images."""
    nnz: int
    """The active features, over all images."""
    cosine_sum: float
    """The sum of the cosines between x - training mean and its reconstruction, 0 if one of them is 0."""
    raw_sum: float
    """The sum of all numbers that the SAE reconstructs: raw embeddings, of unit norm with normalisation l2."""
    raw_sq: float
    """The sum of their squares."""
    raw_numbers: int
    """The number of these numbers."""
    raw_error: float
    """The sum of the squared errors in the same units."""
    fired_M: Tensor
    """True for a feature that is active on some image."""

    @property
    def fvu(self) -> float:
        """The fraction of variance unexplained; NaN without variance."""
        return self.sq_error / self.sq_norm if self.sq_norm > 0 else float("nan")

    @property
    def r2(self) -> float:
        """The R2 1 - FVU, relative to the per-dimension mean of the training rows."""
        return 1.0 - self.fvu

    @property
    def r2_scalar(self) -> float:
        """The R2 of SAIL and overcomplete, relative to the mean of all numbers of all images, one scalar. Guessing the
        mean embedding scores above 0 here, so it is weaker than `r2`; it serves comparisons with theirs."""
        if not self.raw_numbers:
            return float("nan")
        total = self.raw_sq - self.raw_sum**2 / self.raw_numbers
        return 1.0 - self.raw_error / total if total > 0 else float("nan")

    @property
    def cosine(self) -> float:
        """The mean cosine of an embedding and its reconstruction, both less the training mean; NaN without images."""
        return self.cosine_sum / self.count if self.count else float("nan")

    @property
    def l0(self) -> float:
        """The mean number of active features; NaN without images."""
        return self.nnz / self.count if self.count else float("nan")

    @property
    def dead_share(self) -> float:
        """The share of features that are active on no image."""
        return 1.0 - float(self.fired_M.double().mean())

    @classmethod
    def of_sums(cls, sums: Tensor, fired_M: Tensor) -> "Reconstruction":
        """Build the sums from a tensor as of `sums`."""
        error, norm, count, nnz, cosine, raw_sum, raw_sq, numbers, raw_error = sums.tolist()
        return cls(error, norm, int(count), int(nnz), cosine, raw_sum, raw_sq, int(numbers), raw_error, fired_M)

    @property
    def sums(self) -> Tensor:
        """The fields but the last, float64 [9]."""
        return torch.tensor(self[:-1], dtype=torch.float64)

    def merge(self, other: Self) -> "Reconstruction":
        """Return the sums over both sets."""
        return self.of_sums(self.sums + other.sums, self.fired_M | other.fired_M)


@torch.no_grad()
def image_errors(sae: SAE, x_ND: Tensor, z_NM: Tensor) -> ImageErrors:
    """Return the errors of the reconstructions from activations `z_NM` of raw embeddings `x_ND`."""
    residual_ND = sae.unwhiten(sae.normalise(x_ND) - sae.reconstruct(z_NM))
    return ImageErrors(residual_ND.double().square().sum(1), sae.centred(x_ND).double().square().sum(1))


@torch.no_grad()
def reconstruction(sae: SAE, x_ND: Tensor) -> Reconstruction:
    """Return the sums over raw embeddings of any dtype and device, with the inference activations."""
    nothing = torch.zeros(sae.width, dtype=torch.bool, device=sae.b_dec.device)
    total = Reconstruction.of_sums(torch.zeros(9), nothing)
    for part in x_ND.split(_ROWS):
        x_BD = part.to(sae.b_dec)
        total = total.merge(_sums(sae, x_BD, sae.encode(x_BD)))
    return total


def _sums(sae: SAE, x_ND: Tensor, z_NM: Tensor) -> Reconstruction:
    centred_ND = sae.centred(x_ND).double()
    residual_ND = sae.unwhiten(sae.normalise(x_ND) - sae.reconstruct(z_NM)).double()
    raw_ND = centred_ND / sae.scale + sae.mean
    active_NM = z_NM > 0
    sums = [
        residual_ND.square().sum(),
        centred_ND.square().sum(),
        torch.tensor(len(x_ND)),
        torch.count_nonzero(active_NM),
        F.cosine_similarity(centred_ND, centred_ND - residual_ND, dim=1).sum(),
        raw_ND.sum(),
        raw_ND.square().sum(),
        torch.tensor(raw_ND.numel()),
        (residual_ND / sae.scale).square().sum(),
    ]
    return Reconstruction.of_sums(torch.stack([value.double().cpu() for value in sums]), active_NM.any(0))
