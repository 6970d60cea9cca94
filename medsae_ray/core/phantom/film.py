"""The way from densities to a film: tone curve, detector noise, collimation and burned-in markers."""

from functools import lru_cache

import numpy as np

from medsae_ray.core.phantom.canvas import SIZE, Array, Pose, smooth, speckle

Rng = np.random.Generator

_FONT = {  # 5 x 7 dots, a row per number, most significant bit left
    "P": (30, 17, 17, 30, 16, 16, 16),
    "O": (14, 17, 17, 17, 17, 17, 14),
    "R": (30, 17, 17, 30, 20, 18, 17),
    "T": (31, 4, 4, 4, 4, 4, 4),
    "A": (14, 17, 17, 31, 17, 17, 17),
    "B": (30, 17, 17, 30, 17, 17, 30),
    "L": (16, 16, 16, 16, 16, 16, 31),
    "E": (31, 16, 16, 30, 16, 16, 31),
}


@lru_cache(maxsize=8)
def text(word: str, zoom: int = 1) -> Array:
    """Return `word` as a mask [7 * zoom, 6 * len * zoom] of zeros and ones; letters of PORTABLE only."""
    glyphs = [[[row >> (4 - bit) & 1 for bit in range(5)] + [0] for row in _FONT[letter]] for letter in word]
    mask = np.concatenate([np.array(glyph, np.float32) for glyph in glyphs], axis=1)
    return np.kron(mask, np.ones((zoom, zoom), np.float32))


def draw_pose(rng: Rng, view: str) -> Pose:
    """Draw the patient's position; portable AP films are crooked more often."""
    loose = 1.6 if view == "AP" else 1.0
    return Pose(
        angle=float(rng.normal(0, 0.022 * loose)),
        scale=float(np.clip(rng.normal(1.04, 0.035), 0.95, 1.13)),
        dx=float(rng.normal(0, 0.025 * loose)),
        dy=float(rng.normal(0.03, 0.025 * loose)),
    )


def develop(rng: Rng, density: Array) -> Array:
    """Turn density [H, W] into brightness 0..1: a sigmoid tone curve of varied exposure, vignetting and noise."""
    side = np.linspace(-1, 1, SIZE, dtype=np.float32)
    dose = density + np.float32(rng.normal(0, 0.03)) + np.float32(rng.normal(0, 0.02)) * side[None, :]
    contrast = np.float32(rng.uniform(4.6, 6.2))
    bright = 1 / (1 + np.exp(-contrast * (dose - np.float32(0.47))))
    corner = side[None, :] ** 2 + side[:, None] ** 2
    bright = bright * (1 - np.float32(rng.uniform(0, 0.10)) * corner)
    grain = np.float32(rng.uniform(0.010, 0.020))
    developed: Array = bright + grain * speckle(rng)
    return developed


def soften(bright: Array) -> Array:
    """Imitate another detector: greys pressed together and darkened, edges a pixel wider, the base not black.

    It depends on the picture alone, so that a film without it is drawn from the same random numbers.
    """
    padded = np.pad(np.clip(bright, 0, 1), 1, mode="edge")
    blurred = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
    wide = (padded[1:-1, 1:-1] + blurred) / 2
    soft: Array = np.float32(0.08) + np.float32(0.78) * np.power(wide, np.float32(1.25))
    return soft


def burn_in(rng: Rng, bright: Array, scanner: str, portable: bool) -> None:
    """Add markers and collimation: "L" on scanner A, a boxed "L" and dark borders on scanner B, "PORTABLE"."""
    if scanner == "B":
        _collimate(rng, bright)
    top = int(rng.integers(12, 30))
    left = SIZE - int(rng.integers(26, 36))
    if scanner == "B":
        box = np.ones((13, 13), np.float32)
        box[3:10, 4:9] -= text("L")[:, :5]
        _stamp(bright, box, top, left)
    else:
        _stamp(bright, text("L"), top, left)
    corner, jitter = int(rng.integers(3)), int(rng.integers(0, 8))
    if portable:
        plate = np.pad(text("PORTABLE"), 3)  # white letters on a dark plate, so that they show on a bright abdomen
        row = 5 + jitter if corner == 0 else SIZE - 21 - jitter
        column = SIZE - 65 - jitter if corner == 2 else 7 + jitter
        bright[row : row + plate.shape[0], column : column + plate.shape[1]] *= np.float32(0.15)
        _stamp(bright, plate, row, column)


def _stamp(bright: Array, mask: Array, row: int, column: int) -> None:
    h, w = mask.shape
    window = bright[row : row + h, column : column + w]
    window += mask * (np.float32(0.97) - window)


def _collimate(rng: Rng, bright: Array) -> None:
    """Darken borders left and right, a few pixels wide, slightly crooked."""
    column = np.arange(SIZE, dtype=np.float32)[None, :]
    row = np.arange(SIZE, dtype=np.float32)[:, None]
    lean = np.float32(rng.normal(0, 0.012))
    left, right = np.float32(rng.uniform(5, 11)), np.float32(SIZE - rng.uniform(5, 11))
    open_ = smooth(column - left - lean * row, 1.5) * smooth(right + lean * row - column, 1.5)
    bright *= np.float32(0.03) + np.float32(0.97) * open_
