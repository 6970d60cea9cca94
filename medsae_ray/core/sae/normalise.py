"""Centring, scaling and, if wished, whitening of embeddings before a sparse autoencoder sees them.

Legend: N images, D embedding dimension.
"""

from math import sqrt
from typing import NamedTuple, Self

import torch
from torch import Tensor

from medsae_ray.errors import DatasetError

DESCRIPTION = (
    "x_normalised = (x - mean) * scale, times `there` if there is one; scale = sqrt(D / E||x - mean||^2) over the "
    "training rows; back = inverse of there"
)
_ROWS = 16_384
"""Rows that are held in float64 at once."""


class Whitening(NamedTuple):
    """A symmetric (ZCA) transformation of centred and scaled embeddings, and its inverse, float64."""

    there_DD: Tensor
    back_DD: Tensor

    @classmethod
    def of(cls, covariance_DD: Tensor, ridge: float) -> Self:
        """Of the embeddings' covariance C: there = c (C + ridge tr(C) I)^(-1/2), with c such that E||x||^2 stays D.

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
    """MedSAE's normalisation: training mean removed, then E||x||^2 = D (Renzulli et al. 2025, arXiv 2510.26411).

    Public code of related work has scale = sqrt(D) / E||x||^2, which gives E||x||^2 = D only by accident.
    """

    mean_D: Tensor
    """Per-dimension mean of the training rows, float64."""
    scale: float
    """sqrt(D / E||x - mean||^2)."""
    whitening: Whitening | None = None

    @classmethod
    def fit(cls, x_ND: Tensor, whiten: float | None = None) -> Self:
        """Two passes in float64 over the training rows, and over nothing else.

        DatasetError if there are no rows, a row holds NaN or Inf, or all rows are equal.
        """
        if x_ND.ndim != 2 or 0 in x_ND.shape:
            raise DatasetError(
                f"embeddings of shape {tuple(x_ND.shape)} cannot be normalised; rows x dimensions wanted"
            )
        check_finite(x_ND, "training")
        n, d = x_ND.shape
        total_D = torch.zeros(d, dtype=torch.float64, device=x_ND.device)
        for part in x_ND.split(_ROWS):
            total_D += part.double().sum(0)
        mean_D = total_D / n
        variance = sum(float((part.double() - mean_D).square().sum()) for part in x_ND.split(_ROWS)) / n
        # Rows that differ by rounding alone would be blown up to noise of unit variance.
        if variance <= 1e-12 * float(mean_D.square().sum()) or variance == 0:
            raise DatasetError(f"the {n} training embeddings are all equal: the encoder or its input is broken")
        if whiten is None:
            return cls(mean_D.cpu(), sqrt(d / variance))
        covariance_DD = torch.zeros(d, d, dtype=torch.float64, device=x_ND.device)
        for part in x_ND.split(_ROWS):
            covariance_DD += (part.double() - mean_D).T @ (part.double() - mean_D) / n
        return cls(mean_D.cpu(), sqrt(d / variance), Whitening.of(covariance_DD.cpu(), whiten))


def check_finite(x_ND: Tensor, what: str) -> None:
    """DatasetError that counts the rows of `x_ND` with NaN or Inf and names the first."""
    bad_N = ~torch.cat([part.isfinite().all(1) for part in x_ND.split(_ROWS)])
    if bad_N.any():
        first = int(bad_N.nonzero()[0])
        raise DatasetError(
            f"{int(bad_N.sum())} of {len(x_ND)} {what} embeddings hold NaN or Inf (first: row {first}); "
            "leave images out that the encoder could not read"
        )
