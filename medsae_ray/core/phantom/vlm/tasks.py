"""The texts that the small vision-language model learns to write: descriptions, and names for a group's concept.

Legend: A, B images of the two groups; K concepts; p_K the share of films that show a concept.
"""

import json
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from medsae_ray.core.phantom.vlm.concepts import CONCEPTS, NAMES

Truth = NDArray[np.bool_]

DESCRIBE = "Describe the image."
NOTHING = "nothing"
ROOM = 115
SHARED, SPARED, CHANCE = 0.6, 0.25, 0.01
"""The least share of A, the largest share of B, and the largest chance of these in two groups of random films."""


class FilmGroups(NamedTuple):
    """The rows of films of two groups: A, which may share a concept, and B to separate it from."""

    rows_A: NDArray[np.int64]
    rows_B: NDArray[np.int64]


def description(truth_K: Truth) -> str:
    """Return the short names of one film's concepts, as many as the schema has room for."""
    names = [concept.short for concept, shown in zip(CONCEPTS, truth_K, strict=True) if shown]
    while len(", ".join(names)) > ROOM:
        names.pop()
    return ", ".join(names) or NOTHING


def naming_answer(truth_AK: Truth, truth_BK: Truth, p_K: NDArray[np.float64]) -> dict[str, object]:
    """Return the true answer in naming_schema: the shared concept that B lacks most, or an abstention."""
    n_a = len(truth_AK)
    share_K, other_K = truth_AK.mean(0), truth_BK.mean(0)
    order = sorted(range(len(CONCEPTS)), key=lambda k: (other_K[k] - share_K[k], p_K[k]))
    shared = [k for k in order if share_K[k] >= SHARED][:4]
    absent = [k for k in shared if other_K[k] <= SPARED]
    good = [k for k in absent if _by_chance(truth_AK[:, k], truth_BK[:, k], p_K[k]) < CHANCE]
    best = CONCEPTS[good[0]] if good else None
    share = float(share_K[good[0]]) if good else 0.0
    return {
        "per_image": [f"{i + 1}: {description(truth_K)}" for i, truth_K in enumerate(truth_AK)],
        "shared_in_a": [f"{NAMES[k]}: {int(truth_AK[:, k].sum())}/{n_a}" for k in shared],
        "absent_in_b": [NAMES[k] for k in absent],
        "category": best.category if best else "none",
        "name": best.name if best else "",
        "definition": best.definition if best else "",
        "location": best.location if best else "",
        "laterality": "none",
        "fraction_of_a": round(share, 2),
        "alternatives": [NAMES[k] for k in good[1:4]],
        "confidence": "high" if share > 0.8 else "medium" if best else "low",
        "abstain": best is None,
    }


def written(answer: dict[str, object]) -> str:
    """Return the answer as the model writes it."""
    return json.dumps(answer, separators=(",", ":"))


def _by_chance(shown_A: Truth, shown_B: Truth, p: float) -> float:
    """Return the chance that random films show a concept so often in A and so seldom in B."""
    return float(binom.sf(shown_A.sum() - 1, len(shown_A), p) * binom.cdf(shown_B.sum(), len(shown_B), p))


def planted(truth_NK: Truth, rng: np.random.Generator, n_a: int = 8, n_b: int = 4) -> FilmGroups:
    """Draw groups such that 5 to 8 of 8 in A (other sizes: as large a share) show a concept, and B lacks it.

    In one group of eight, one image of B shows it too.
    """
    concept = int(rng.integers(len(CONCEPTS)))
    have, lack = np.flatnonzero(truth_NK[:, concept]), np.flatnonzero(~truth_NK[:, concept])
    least = int(np.ceil(SHARED * n_a))
    k = int(rng.integers(least, n_a + 1))
    strays = int(rng.random() < 0.125)
    rows_A = np.concatenate([rng.choice(have, k, replace=False), rng.choice(lack, n_a - k, replace=False)])
    rows_B = np.concatenate([rng.choice(have, strays), rng.choice(lack, n_b - strays, replace=False)])
    return FilmGroups(rng.permutation(rows_A), rng.permutation(rows_B))


def unrelated(truth_NK: Truth, rng: np.random.Generator, n_a: int = 8, n_b: int = 4) -> FilmGroups:
    """Draw groups of random films."""
    rows = rng.choice(len(truth_NK), n_a + n_b, replace=False)
    return FilmGroups(rows[:n_a], rows[n_a:])


def example_answers() -> Iterator[dict[str, object]]:
    """Yield every concept as a name with others, and an abstention, to train the tokenizer on."""
    p_K = np.full(len(CONCEPTS), 0.1)
    eye = np.eye(len(CONCEPTS), dtype=bool)
    for k in range(len(CONCEPTS)):
        for n_a in (4, 5, 6, 7, 8):
            truth_AK = np.repeat(eye[k : k + 1], n_a, 0)
            truth_AK[0] |= eye[(k + 1) % len(CONCEPTS)]
            yield naming_answer(truth_AK, np.zeros((4, len(CONCEPTS)), bool), p_K)
            yield naming_answer(eye[:n_a], eye[:4], p_K)
