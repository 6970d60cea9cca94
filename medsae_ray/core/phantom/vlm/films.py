"""Films to train on: pictures, their concepts and places; drawn once and kept in a folder.

Legend: N films, S side in pixels, K concepts, T cells of 8 x 8 pixels (a square grid), F findings.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medsae_ray.core.phantom.cohort import TRAINING_SEEDS, patient
from medsae_ray.core.phantom.render import place, render
from medsae_ray.core.phantom.study import FINDINGS, Study
from medsae_ray.core.phantom.vlm.concepts import truth

SIDE, CELL = 224, 8
GRID = SIDE // CELL
CHUNK = 250
"""The number of patients per file."""


class Films(NamedTuple):
    """The films x_NSS uint8; their concepts y_NK bool; w_NTF uint8, the share of a cell a finding fills (255: all)."""

    x_NSS: Tensor
    y_NK: Tensor
    w_NTF: Tensor


def locate(study: Study, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return w_TF: the share of a cell's pixels that a finding changes by more than 8 grey levels, 255 for all."""
    w_TF = np.zeros((GRID**2, len(FINDINGS)), np.float32)
    for k, name in enumerate(FINDINGS):
        if study.truth[name]:
            changed = place(study, name, image)
            w_TF[:, k] = changed.reshape(GRID, CELL, GRID, CELL).mean((1, 3)).ravel()
    return np.round(w_TF * 255).astype(np.uint8)


def draw(seed: int, chunk: int, located: bool) -> Films:
    """Draw the films of patients CHUNK * chunk ... of a training seed; w_NTF is 0 unless `located`."""
    if seed not in TRAINING_SEEDS:
        raise ValueError(f"seed {seed} belongs to runs; the model is trained on seeds of {TRAINING_SEEDS} alone")
    studies = [study for number in range(CHUNK * chunk, CHUNK * (chunk + 1)) for study in patient(seed, number)]
    x_NSS = np.stack([render(study) for study in studies])
    w_NTF = np.zeros((len(studies), GRID**2, len(FINDINGS)), np.uint8)
    if located:
        w_NTF = np.stack([locate(*pair) for pair in zip(studies, x_NSS, strict=True)])
    y_NK = torch.tensor([truth(study) for study in studies])
    return Films(torch.from_numpy(x_NSS), y_NK, torch.from_numpy(w_NTF))


def keep(folder: Path, seed: int, chunk: int, located: bool) -> Films:
    """Load the films from `folder`, drawn first if they are missing."""
    path = folder / f"films-{seed}-{chunk:03d}{'-located' if located else ''}.pt"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{chunk}.part")
        torch.save(tuple(draw(seed, chunk, located)), part)
        part.rename(path)
    return Films(*torch.load(path, weights_only=True))


def gather(parts: list[Films]) -> Films:
    """Join many sets of films."""
    return Films(*(torch.cat(column) for column in zip(*parts, strict=True)))
