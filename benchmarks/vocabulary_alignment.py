"""A comparison of centrings by right names of planted features, and of nulls by names of random directions.

Images and texts are synthetic: two distant cones, with concepts as directions of a small shared subspace. SAEs are
trained on the images. Usage: python benchmarks/vocabulary_alignment.py [--seeds 3]
"""

import argparse
from typing import Literal

import numpy as np
import torch

from medsae_ray.core.naming.alignment import Centring, Space, best_terms
from medsae_ray.core.naming.vocabulary import unit
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.model import SAE

D, SHARED, TERMS, PLANTED, IMAGES = 128, 48, 200, 40, 6000
RATES, STRENGTH = (0.02, 0.4), 1.0
OWN_WORDS = 1.0
"""Length of what a text's embedding has besides its concept, of length 1."""
Normalisation = Literal["centre", "none", "l2"]
NORMALISATIONS: tuple[Normalisation, ...] = ("centre", "none", "l2")
CENTRINGS: tuple[Centring, ...] = ("none", "text", "both")


def world(seed: int, gap: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images float32 [N, D], presence [N, PLANTED] and texts [TERMS, D]; the first PLANTED terms are in images."""
    rng = np.random.default_rng(seed)
    basis_SD = np.linalg.qr(rng.normal(size=(D, SHARED)))[0].T
    concept_VD = unit(rng.normal(size=(TERMS, SHARED))) @ basis_SD
    cones_2D = unit(rng.normal(size=(2, D))) + unit(rng.normal(size=(2, SHARED))) @ basis_SD
    image_D, text_D = gap * unit(cones_2D)
    has_NC = rng.random((IMAGES, PLANTED)) < np.geomspace(*RATES, PLANTED)
    strength_NC = has_NC * rng.gamma(8, STRENGTH / 8, has_NC.shape)
    noise_ND = 0.3 * rng.normal(size=(IMAGES, SHARED)) / np.sqrt(SHARED) @ basis_SD + 0.01 * rng.normal(
        size=(IMAGES, D)
    )
    x_ND = image_D + strength_NC @ concept_VD[:PLANTED] + noise_ND
    spoken_VD = concept_VD + OWN_WORDS * unit(rng.normal(size=(TERMS, D)))  # texts say it in their own way
    return x_ND.astype(np.float32), has_NC, unit(text_D + spoken_VD)


def train(x_ND: np.ndarray, normalisation: Normalisation, seed: int) -> SAE:
    """Fit a BatchTopK SAE on five sixths of the images; the rest are held out."""
    config = SAEConfig(
        d_in=D,
        architecture="batch_topk",
        width=64,
        k=4,
        epochs=40,
        batch_size=256,
        normalisation=normalisation,
        whiten=None,
        init=None,
        lr=1e-3,
        precision="float32",
        seed=seed,
    )
    x = torch.from_numpy(x_ND)
    return fit(config, x[: IMAGES * 5 // 6], x[IMAGES * 5 // 6 :])


def owners(z_NF: np.ndarray, has_NC: np.ndarray) -> dict[int, int]:
    """Feature -> the planted concept that it follows with a correlation of 0.7 or more."""
    with np.errstate(invalid="ignore"):
        r_CF = np.nan_to_num(np.corrcoef(has_NC.T, z_NF.T)[:PLANTED, PLANTED:])
    best_F = r_CF.argmax(axis=0)
    return {int(f): int(best_F[f]) for f in np.flatnonzero(r_CF.max(axis=0) >= 0.7)}


def sphere(draws: int, seed: int) -> np.ndarray:
    """Draw directions uniformly from the unit sphere [draws, D]."""
    return unit(np.random.default_rng(seed).normal(size=(draws, D)))


def measure(seed: int, gap: float, normalisation: Normalisation) -> list[tuple[str, int, float, float, float, float]]:
    """Count, for each centring, how often features and meaningless directions get names."""
    x_ND, has_NC, t_VD = world(seed, gap)
    sae = train(x_ND, normalisation, seed)
    with torch.no_grad():
        z_NF = sae.encode(torch.from_numpy(x_ND)).numpy()
    of, alive_F = owners(z_NF, has_NC), np.any(z_NF > 0, axis=0)
    rows: list[tuple[str, int, float, float, float, float]] = []
    for centring in CENTRINGS:
        space = Space.of(sae, t_VD, centring)
        texts_VD, null_KD = space.texts(t_VD), space.null(alive_F, 10_000, 1)
        found = best_terms(space.direction_FD, texts_VD, null_KD)
        features = list(of)
        right = np.mean([found.term_FR[f, 0] == c for f, c in of.items()])
        named = np.mean([found.q_F[f] <= 0.05 for f in features])
        strange_KD = space.null(alive_F, 64, 99)
        wrong = [(best_terms(strange_KD, texts_VD, null).q_F <= 0.05).mean() for null in (null_KD, sphere(10_000, 2))]
        rows.append((centring, len(of), float(right), float(named), float(wrong[0]), float(wrong[1])))
    return rows


def main() -> None:
    """Average over seeds and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3)
    seeds = parser.parse_args().seeds
    print("| gap | SAE | centring | features | right term | named | mixtures named | by sphere null |")
    print("|---|---|---|---|---|---|---|---|")
    for gap in (1.0, 3.0):
        for normalisation in NORMALISATIONS:
            rows = [measure(seed, gap, normalisation) for seed in range(seeds)]
            for i, centring in enumerate(CENTRINGS):
                mean = np.mean([row[i][1:] for row in rows], axis=0)
                said = " | ".join(f"{value:.2f}" for value in mean[1:])
                print(f"| {gap:g} | {normalisation} | {centring} | {mean[0]:.1f} | {said} |", flush=True)


if __name__ == "__main__":
    main()
