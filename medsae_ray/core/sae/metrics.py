"""How well a sparse autoencoder reconstructs, as sums that merge over shards.

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
    cosine_sum: float
    """Sum of the cosines between x - training mean and its reconstruction, 0 where one of them is 0."""
    raw_sum: float
    """Sum of all numbers in what the SAE reconstructs: raw embeddings, of unit norm with normalisation l2."""
    raw_sq: float
    """Sum of their squares."""
    raw_numbers: int
    """How many they are."""
    raw_error: float
    """Sum of the squared errors in the same units."""
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
    def r2_scalar(self) -> float:
        """R2 as SAIL and overcomplete define it: against the mean of all numbers of all images, one scalar. Guessing
        the mean embedding scores above 0 here, so it says less than `r2`; it is here for comparisons with theirs."""
        if not self.raw_numbers:
            return float("nan")
        total = self.raw_sq - self.raw_sum**2 / self.raw_numbers
        return 1.0 - self.raw_error / total if total > 0 else float("nan")

    @property
    def cosine(self) -> float:
        """Mean cosine between an embedding and its reconstruction, both less the training mean; NaN without images."""
        return self.cosine_sum / self.count if self.count else float("nan")

    @property
    def l0(self) -> float:
        """Mean number of active features; NaN without images."""
        return self.nnz / self.count if self.count else float("nan")

    @property
    def dead_share(self) -> float:
        """Share of features that are active on no image."""
        return 1.0 - float(self.fired_M.double().mean())

    @classmethod
    def of_sums(cls, sums: Tensor, fired_M: Tensor) -> "Reconstruction":
        """From the inverse of `sums`."""
        error, norm, count, nnz, cosine, raw_sum, raw_sq, numbers, raw_error = sums.tolist()
        return cls(error, norm, int(count), int(nnz), cosine, raw_sum, raw_sq, int(numbers), raw_error, fired_M)

    @property
    def sums(self) -> Tensor:
        """All but the last field, float64 [9]."""
        return torch.tensor(self[:-1], dtype=torch.float64)

    def merge(self, other: Self) -> "Reconstruction":
        """The sums over both sets."""
        return self.of_sums(self.sums + other.sums, self.fired_M | other.fired_M)


@torch.no_grad()
def image_errors(sae: SAE, x_ND: Tensor, z_NM: Tensor) -> ImageErrors:
    """Errors of the reconstructions from activations `z_NM` of raw embeddings `x_ND`."""
    residual_ND = sae.unwhiten(sae.normalise(x_ND) - sae.reconstruct(z_NM))
    return ImageErrors(residual_ND.double().square().sum(1), sae.centred(x_ND).double().square().sum(1))


@torch.no_grad()
def reconstruction(sae: SAE, x_ND: Tensor) -> Reconstruction:
    """Sums over raw embeddings of any dtype and device, with the inference activations."""
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
