"""The normalisation of embeddings before a sparse autoencoder, and its inverse after.

Legend: N images, D embedding dimension.
"""

from collections.abc import Iterator
from math import sqrt
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from medsae_ray.errors import DatasetError

DESCRIPTION = {
    "centre": "x_normalised = (x - mean) * scale, times `there` if there is one; scale = sqrt(D / E||x - mean||^2) "
    "over the training rows; back = inverse of there",
    "none": "x_normalised = x; mean and scale, as of normalisation centre, serve to measure errors only",
    "l2": "x_normalised = x / ||x||; mean and scale, of such rows, serve to measure errors only",
}
_ROWS = 16_384
"""The rows held in float64 at once."""


class Whitening(NamedTuple):
    """A symmetric (ZCA) transformation of centred and scaled embeddings, and its inverse, float64."""

    there_DD: Tensor
    back_DD: Tensor

    @classmethod
    def of(cls, covariance_DD: Tensor, ridge: float) -> Self:
        """Compute there = c (C + ridge tr(C) I)^(-1/2) of the covariance C, with c such that E||x||^2 stays D.

        Saraswatula & Klindt 2025 (arXiv 2511.13981) cut off small components instead; a ridge needs no cut.
        """
        value_D, vector_DD = torch.linalg.eigh(covariance_DD)
        total, value_D = value_D.sum(), value_D.clamp_min(0)
        root_D = (value_D + ridge * total).sqrt()
        there_DD, back_DD = (vector_DD * root_D**power @ vector_DD.T for power in (-1, 1))
        # x comes scaled for E||x||^2 = D with the covariance's own trace; keep that with the new one.
        factor = float((total / (value_D / root_D.square()).sum()).sqrt())
        return cls(there_DD * factor, back_DD / factor)


class Normalisation(NamedTuple):
    """The normalisation of MedSAE: training mean removed, then E||x||^2 = D (Renzulli et al. 2025, arXiv 2510.26411).

    Public code of related work has scale = sqrt(D) / E||x||^2, which gives E||x||^2 = D only by accident.
    """

    mean_D: Tensor
    """The per-dimension mean of the training rows, float64."""
    scale: float
    """The scale sqrt(D / E||x - mean||^2)."""
    whitening: Whitening | None = None

    @classmethod
    def fit(cls, x_ND: Tensor, whiten: float | None = None, kind: str = "centre") -> Self:
        """Fit by two passes in float64 over the training rows alone; over rows of unit norm if `kind` is l2.

        Raises DatasetError if there are no rows, a row holds NaN or Inf, or all rows are equal.
        """
        if x_ND.ndim != 2 or 0 in x_ND.shape:
            raise DatasetError(
                f"embeddings of shape {tuple(x_ND.shape)} cannot be normalised; rows x dimensions wanted"
            )
        check_finite(x_ND, "training")
        n, d = x_ND.shape
        total_D = torch.zeros(d, dtype=torch.float64, device=x_ND.device)
        for part in _parts(x_ND, kind):
            total_D += part.sum(0)
        mean_D = total_D / n
        variance = sum(float((part - mean_D).square().sum()) for part in _parts(x_ND, kind)) / n
        # Rows that differ by rounding alone would be scaled to noise of unit variance.
        if variance <= 1e-12 * float(mean_D.square().sum()) or variance == 0:
            if n == 1:
                raise DatasetError("there is one training image only, and an SAE learns from differences: give more")
            raise DatasetError(f"the {n} training embeddings are all equal: the encoder or its input is broken")
        if whiten is None:
            return cls(mean_D.cpu(), sqrt(d / variance))
        covariance_DD = torch.zeros(d, d, dtype=torch.float64, device=x_ND.device)
        for part in _parts(x_ND, kind):
            covariance_DD += (part - mean_D).T @ (part - mean_D) / n
        return cls(mean_D.cpu(), sqrt(d / variance), Whitening.of(covariance_DD.cpu(), whiten))


class Normaliser(nn.Module):
    """A module with buffers mean [D], scale [] and, for whitening, there [D, D] and its inverse back [D, D].

    Errors are always measured on centred and scaled embeddings that are not whitened, so that figures of all kinds
    compare.
    """

    def __init__(self, normalisation: Normalisation, kind: str = "centre") -> None:
        super().__init__()
        self.kind = kind
        self.mean: Tensor
        self.scale: Tensor
        self.register_buffer("mean", normalisation.mean_D.float())
        self.register_buffer("scale", torch.tensor(normalisation.scale, dtype=torch.float32))
        self.there: Tensor | None
        self.back: Tensor | None
        whitening = normalisation.whitening
        self.register_buffer("there", None if whitening is None else whitening.there_DD.float())
        self.register_buffer("back", None if whitening is None else whitening.back_DD.float())
        d_in = len(normalisation.mean_D)
        self.variance = float(d_in) if kind == "centre" else d_in / normalisation.scale**2
        """The variance E||x - E x||^2 of the training rows after normalisation."""

    def normalise(self, x_ND: Tensor) -> Tensor:
        """Normalise raw embeddings."""
        if self.kind != "centre":
            return unit(x_ND) if self.kind == "l2" else x_ND
        scaled_ND = self.centred(x_ND)
        return scaled_ND if self.there is None else scaled_ND @ self.there

    def denormalise(self, x_ND: Tensor) -> Tensor:
        """Invert `normalise`; the embeddings have unit norm if the kind is l2."""
        return self.unwhiten(x_ND) / self.scale + self.mean if self.kind == "centre" else x_ND

    def centred(self, x_ND: Tensor) -> Tensor:
        """Centre and scale raw embeddings, for the measurement of errors."""
        return ((unit(x_ND) if self.kind == "l2" else x_ND) - self.mean) * self.scale

    def unwhiten(self, x_ND: Tensor) -> Tensor:
        """Turn normalised embeddings, or differences of them, into centred and scaled ones, to measure errors on."""
        if self.kind != "centre":
            return x_ND * self.scale
        return x_ND if self.back is None else x_ND @ self.back


def unit(x_ND: Tensor) -> Tensor:
    """Return rows of unit norm; a row of zeros stays one."""
    return F.normalize(x_ND, dim=1)


def _parts(x_ND: Tensor, kind: str) -> Iterator[Tensor]:
    """Yield the rows in float64, some at a time."""
    for part in x_ND.split(_ROWS):
        yield unit(part.double()) if kind == "l2" else part.double()


def check_finite(x_ND: Tensor, what: str) -> None:
    """Raise DatasetError that counts the rows of `x_ND` with NaN or Inf and names the first."""
    bad_N = ~torch.cat([part.isfinite().all(1) for part in x_ND.split(_ROWS)])
    if bad_N.any():
        first = int(bad_N.nonzero()[0])
        raise DatasetError(
            f"{int(bad_N.sum())} of {len(x_ND)} {what} embeddings hold NaN or Inf (first: row {first}); "
            "leave images out that the encoder could not read"
        )
