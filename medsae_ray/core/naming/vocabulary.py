"""The vocabulary of names for features, and its embeddings by the encoder's text half.

Legend: V terms, P templates, D embedding dimension.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from medsae_ray.core.analysis.values import Floats
from medsae_ray.errors import RecipeError

CHEST = Path(__file__).with_name("chest_radiographs.txt")
"""The packaged vocabulary: findings, devices, anatomy and technique of chest radiographs."""


class Texts(Protocol):
    """A text half, as in `core/encoders/text.py`."""

    def encode(self, texts: Sequence[str], *, batch_size: int = 64) -> np.ndarray:
        """Embed texts as unit rows float32 [N, D]."""
        ...


def parse_terms(text: str, where: str) -> list[str]:
    """Return the terms of a file: one a line, without empty lines and those that begin with #."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return checked_terms([line for line in lines if line and not line.startswith("#")], where)


def checked_terms(terms: Sequence[str], where: str) -> list[str]:
    """Return `terms` unchanged. Raises RecipeError for fewer than two, an empty one, or one twice (in any case)."""
    if len(terms) < 2:
        raise RecipeError(f"{where}: a vocabulary needs two terms or more, found {len(terms)}")
    seen = set[str]()
    for term in terms:
        if not term.strip() or term.casefold() in seen:
            raise RecipeError(f"{where}: the term {term!r} is {'repeated' if term.strip() else 'empty'}")
        seen.add(term.casefold())
    return list(terms)


def terms_hash(terms: Sequence[str]) -> str:
    """Return a hash of the terms in their order."""
    return hashlib.sha256("\n".join(terms).encode()).hexdigest()


def embed_terms(encoder: Texts, terms: Sequence[str], templates: Sequence[str], batch_size: int = 64) -> np.ndarray:
    """Return unit rows float32 [V, D], a term's mean embedding over all templates (Radford et al. 2021, 3.1.4).

    A template is a sentence with {} in place of the term.
    """
    texts = [template.replace("{}", term) for term in terms for template in templates]
    t_VPD = encoder.encode(texts, batch_size=batch_size).reshape(len(terms), len(templates), -1)
    return unit(t_VPD.astype(np.float64).mean(axis=1)).astype(np.float32)


def unit(x_ND: Floats) -> Floats:
    """Return rows of unit norm; a row of zeros stays one."""
    norm_N1 = np.linalg.norm(x_ND, axis=1, keepdims=True)
    unit_ND: Floats = x_ND / np.where(norm_N1 > 0, norm_N1, 1)
    return unit_ND
