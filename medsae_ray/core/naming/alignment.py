"""Features and texts in one space: the cosine of a decoder direction with a text's embedding, and its null.

The method is that of "Discover-then-Name" (Rao et al., ECCV 2024, arXiv 2407.14499), which names a feature by the term
whose text embedding is nearest to its decoder direction. Added: texts are centred first, and a name counts only if its
cosine exceeds those of random directions.

Legend: F features, V terms, D embedding dimension, K null directions.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa

from medsae_ray.core.analysis.false_discovery import benjamini_hochberg
from medsae_ray.core.analysis.values import Floats
from medsae_ray.core.artifacts import schema
from medsae_ray.core.naming.vocabulary import unit
from medsae_ray.core.sae.model import SAE

Centring = Literal["text", "both", "none"]
SOURCE = "vocabulary"
NAMED, ABSTAINED = "named", "abstained"
RUNNERS_UP = 2
"""The further terms that are kept as alternatives to a name."""


@dataclass(frozen=True)
class Space:
    """The common space of features and texts.

    Images and texts of a contrastive encoder lie in two cones far apart (the modality gap, Liang et al. 2022, arXiv
    2203.02053), so the mean of all texts carries nothing about a term. A decoder direction is a difference of images,
    in which the mean of all images cancels.
    """

    text_mean_D: Floats
    """The mean that is subtracted from every text; zeros leave texts unchanged."""
    direction_FD: Floats
    """The features' directions, as unit rows; zero if `centring` leaves nothing."""

    @classmethod
    def of(cls, sae: SAE, t_VD: Floats, centring: Centring) -> Self:
        """Build the space of an SAE and the vocabulary's embeddings `t_VD`, whose mean stands for all texts.

        A direction has no mean; `both` removes its part along the mean of the SAE's training images.
        """
        raw_FD = directions(sae)
        zero_D = np.zeros(raw_FD.shape[1])
        text_mean_D = zero_D if centring == "none" else np.asarray(t_VD, dtype=np.float64).mean(axis=0)
        mean_1D = sae.mean.detach().cpu().double().numpy()[None]
        axis_D = unit(mean_1D)[0] if centring == "both" else zero_D
        return cls(text_mean_D, unit(raw_FD - np.outer(raw_FD @ axis_D, axis_D)))

    def texts(self, t_ND: Floats) -> Floats:
        """Turn embeddings of texts into unit rows to compare with `direction_FD`."""
        return unit(np.asarray(t_ND, dtype=np.float64) - self.text_mean_D)

    def null(self, alive_F: np.ndarray, draws: int, seed: int) -> Floats:
        """Draw unit rows [K, D], normal with the mean and covariance of the live features' directions.

        They are random mixtures of features. Directions of the whole sphere would be too easy a null:
        embeddings and texts lie in the same few dimensions, so that any direction among images is nearer to some term
        than one of the sphere.
        """
        d_FD = self.direction_FD[alive_F]
        mean_D = d_FD.mean(axis=0)
        value_D, vector_DD = np.linalg.eigh((d_FD - mean_D).T @ (d_FD - mean_D) / len(d_FD))
        root_DD = vector_DD * np.sqrt(value_D.clip(0))
        noise_KD = np.random.default_rng(seed).normal(size=(draws, len(mean_D)))
        return unit(mean_D + noise_KD @ root_DD.T)


def directions(sae: SAE) -> Floats:
    """Return each feature's change of an embedding per unit, float64 [F, D]: the decoder without the normalisation."""
    return (sae.unwhiten(sae.W_dec) / sae.scale).detach().cpu().double().numpy()


class BestTerms(NamedTuple):
    """The best term of each of F features, compared with the null."""

    term_FR: np.ndarray
    """The nearest terms, nearest first."""
    cosine_FR: Floats
    """The cosines of the nearest terms."""
    z_F: Floats
    """The distance of the best cosine above those of null directions with their best terms, in standard deviations."""
    q_F: Floats
    """The false discovery rate over the features (Benjamini & Hochberg 1995)."""


def best_terms(direction_FD: Floats, t_VD: Floats, null_KD: Floats) -> BestTerms:
    """Find the best terms for unit rows. A null direction also has its best of V terms, so V needs no correction."""
    cosine_FV = direction_FD @ t_VD.T
    term_FR = np.argsort(-cosine_FV, axis=1, kind="stable")[:, : 1 + RUNNERS_UP]
    cosine_FR = np.take_along_axis(cosine_FV, term_FR, axis=1)
    null_K = (null_KD @ t_VD.T).max(axis=1)
    p_F = exceedance(cosine_FR[:, 0], null_K)
    spread = max(float(null_K.std()), np.finfo(np.float64).tiny)
    q_F = benjamini_hochberg(p_F)
    return BestTerms(term_FR, cosine_FR, (cosine_FR[:, 0] - null_K.mean()) / spread, q_F)


def exceedance(value_N: Floats, null_K: Floats) -> Floats:
    """Return p of each value: the share of null values at least as large, the value itself counted as one of them."""
    below_N = np.searchsorted(np.sort(null_K), value_N, side="left")
    return (1 + len(null_K) - below_N) / (1 + len(null_K))


def vocabulary_names(
    space: Space, terms: list[str], t_VD: Floats, alive_F: np.ndarray, draws: int, seed: int, most_q: float
) -> pa.Table:
    """Return the names of source `vocabulary`: schema.names() with a row for each feature.

    A feature abstains if it is active on no image, or its best term does not stand out (q above `most_q`).
    """
    alive = np.flatnonzero(alive_F)
    rows = {int(feature): _row(int(feature), None, [], "active on no image") for feature in np.flatnonzero(~alive_F)}
    if len(alive):
        found = best_terms(space.direction_FD[alive], space.texts(t_VD), space.null(alive_F, draws, seed))
        for place, feature in enumerate(alive.tolist()):
            near = [(terms[t], c) for t, c in zip(found.term_FR[place], found.cosine_FR[place], strict=True)]
            (name, cosine), *others = near
            why = f"cosine {cosine:.3f}, z = {found.z_F[place]:.1f}, q = {found.q_F[place]:.2g}; the nearest: "
            why += ", ".join(f"{term} {c:.3f}" for term, c in near)
            stands_out = found.q_F[place] <= most_q
            rows[feature] = _row(feature, name if stands_out else None, [term for term, _ in others], why)
    return pa.Table.from_pylist([rows[feature] for feature in sorted(rows)], schema=schema.names())


def _row(feature: int, name: str | None, others: list[str], why: str) -> dict[str, object]:
    return {
        "feature": feature,
        "source": SOURCE,
        "status": NAMED if name else ABSTAINED,
        "name": name,
        "alternatives": others if name else [],
        "attempts": 0,
        "evidence": why,
    }
