"""Drawing tools: smooth steps, blobs, clouds and strokes on a pixel grid seen from the patient's own frame.

Legend: H = W = SIZE pixels; x and y are patient coordinates (x to the right of the picture, y downwards, the film's
half-width is 1); "density" is added brightness before the film's tone curve.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

SIZE = 224
"""The height and width of a radiograph in pixels."""

Array = NDArray[np.float32]
Floats = NDArray[np.floating[Any]]


class Pose(NamedTuple):
    """The patient's position before the film: pixel = scale * rotation(patient) + shift."""

    angle: float
    """The rotation in radians."""
    scale: float
    """The magnification, about 1."""
    dx: float
    """The shift to the right, in half-widths."""
    dy: float
    """The shift downwards, in half-widths."""


class Stroke(NamedTuple):
    """The polylines: x, y of shape [..., points] in patient coordinates, and the density `peak` at the centre line."""

    x: Floats
    y: Floats
    peak: Floats


def smooth(distance: Floats, width: float) -> Array:
    """Return 0 below -width/2, 1 above width/2, a cubic step between."""
    t: Array = np.multiply(distance, np.float32(1 / width), dtype=np.float32)
    t += np.float32(0.5)
    np.clip(t, 0, 1, out=t)
    step = t * np.float32(-2)
    step += np.float32(3)
    step *= t
    step *= t
    return step


@lru_cache(maxsize=16)
def _spread(cells: int) -> Array:
    """Return an interpolation matrix [SIZE, cells] of unit-norm rows, so that white cells keep unit variance."""
    centre = np.linspace(-0.5, cells - 0.5, SIZE, dtype=np.float32)[:, None]
    weight = np.exp(-((centre - np.arange(cells, dtype=np.float32)) ** 2) / (2 * 0.55**2))
    spread: Array = (weight / np.sqrt((weight**2).sum(1, keepdims=True))).astype(np.float32)
    return spread


@lru_cache(maxsize=4)
def _pen(sigma: float) -> Array:
    """Return a Gaussian blur [SIZE, SIZE] along one axis, scaled so that a line of unit mass per pixel peaks at 1."""
    at = np.arange(SIZE)
    weight = np.exp(-((at[:, None] - at) ** 2) / (2 * sigma**2)) / np.sqrt(np.sqrt(2 * np.pi) * sigma)
    pen: Array = weight.astype(np.float32)
    return pen


def cloud(rng: np.random.Generator, cells: int) -> Array:
    """Draw smooth noise [H, W] of mean 0 and variance 1, with about `cells` independent cells a side."""
    spread = _spread(cells)
    field = spread @ rng.standard_normal((cells, cells), dtype=np.float32) @ spread.T
    return field.astype(np.float32, copy=False)


def speckle(rng: np.random.Generator) -> Array:
    """Draw the detector's white noise [H, W] of variance 1, nearly Gaussian (the sum of three bytes)."""
    total = rng.integers(0, 256, (3, SIZE, SIZE), dtype=np.uint8).sum(0, dtype=np.uint16).astype(np.float32)
    noise: Array = (total - np.float32(382.5)) * np.float32(1 / 128)
    return noise


class Canvas:
    """The pixel grid in patient coordinates: `x` and `y`, both [H, W]."""

    def __init__(self, pose: Pose) -> None:
        side = np.linspace(-1, 1, SIZE, dtype=np.float32)
        u, v = side[None, :] - np.float32(pose.dx), side[:, None] - np.float32(pose.dy)
        self._c, self._s = (np.float32(f(pose.angle) / pose.scale) for f in (np.cos, np.sin))
        self.x: Array = self._c * u + self._s * v
        self.y: Array = self._c * v - self._s * u
        self.pose = pose

    def pixels(self, x: Floats, y: Floats) -> tuple[Floats, Floats]:
        """Return column and row (fractional) of patient coordinates."""
        k = np.float32(self.pose.scale**2)
        u = k * (self._c * x - self._s * y) + np.float32(self.pose.dx)
        v = k * (self._s * x + self._c * y) + np.float32(self.pose.dy)
        half = np.float32((SIZE - 1) / 2)
        return (u + 1) * half, (v + 1) * half

    def sample(self, image: Array, x: Floats, y: Floats) -> Array:
        """Return `image` [H, W] at the pixels nearest to patient coordinates; 0 off the film."""
        column, row = (np.rint(p).astype(np.int64) for p in self.pixels(x, y))
        on_film = (column >= 0) & (column < SIZE) & (row >= 0) & (row < SIZE)
        picked: Array = image[np.where(on_film, row, 0), np.where(on_film, column, 0)] * on_film
        return picked

    def blob(self, x: float, y: float, rx: float, ry: float, tilt: float = 0.0) -> Array:
        """Return a Gaussian spot [H, W] of height 1 with standard deviations rx and ry."""
        spot = np.zeros((SIZE, SIZE), np.float32)
        window = self._window(x, y, 3.2 * max(rx, ry))
        spot[window] = np.exp(np.float32(-0.5) * self._radius2(window, x, y, rx, ry, tilt))
        return spot

    def disc(self, x: float, y: float, rx: float, ry: float, soft: float = 0.3, tilt: float = 0.0) -> Array:
        """Return an ellipse [H, W] of height 1 with semi-axes rx and ry; `soft` is the edge's width in radii."""
        ellipse = np.zeros((SIZE, SIZE), np.float32)
        window = self._window(x, y, (1 + soft) * max(rx, ry))
        ellipse[window] = smooth(1 - np.sqrt(self._radius2(window, x, y, rx, ry, tilt)), soft)
        return ellipse

    def _window(self, x: float, y: float, reach: float) -> tuple[slice, slice]:
        """Return the rows and columns within `reach` of a point."""
        column, row = self.pixels(np.array(x), np.array(y))
        far = reach * self.pose.scale * (SIZE - 1) / 2 + 1
        low = [int(np.clip(p - far, 0, SIZE)) for p in (row, column)]
        high = [int(np.clip(p + far + 1, 0, SIZE)) for p in (row, column)]
        return slice(low[0], high[0]), slice(low[1], high[1])

    def _radius2(self, window: tuple[slice, slice], x: float, y: float, rx: float, ry: float, tilt: float) -> Array:
        px, py = self.x[window] - np.float32(x), self.y[window] - np.float32(y)
        if tilt:
            c, s = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
            px, py = c * px + s * py, c * py - s * px
        px *= np.float32(1 / rx)
        py *= np.float32(1 / ry)
        squared: Array = px * px + py * py
        return squared

    def stroke_layer(self, strokes: Sequence[Stroke], sigma: float) -> Array:
        """Draw all strokes with a Gaussian pen of `sigma` pixels: density [H, W]."""
        if not strokes:
            return np.zeros((SIZE, SIZE), np.float32)
        column, row, mass = (np.concatenate(part) for part in zip(*map(self._dots, strokes), strict=True))
        inside = (column >= 0) & (column < SIZE - 1) & (row >= 0) & (row < SIZE - 1)
        column, row, mass = column[inside], row[inside], mass[inside]
        j, i = column.astype(np.int64), row.astype(np.int64)
        a, b = column - j, row - i
        corner = i * SIZE + j
        at = np.concatenate([corner, corner + 1, corner + SIZE, corner + SIZE + 1])
        share = np.concatenate([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b]) * np.tile(mass, 4)
        flat = np.bincount(at, weights=share, minlength=SIZE * SIZE)
        pen = _pen(sigma)
        layer: Array = pen @ flat.reshape(SIZE, SIZE).astype(np.float32) @ pen
        return layer

    def _dots(self, stroke: Stroke) -> tuple[Floats, Floats, Floats]:
        """Return polylines as dots at most 0.7 pixels apart: column, row and mass, each flat."""
        column, row = self.pixels(stroke.x, stroke.y)
        du, dv = np.diff(column), np.diff(row)
        length = np.hypot(du, dv)
        n = int(length.max() / 0.7) + 1
        at = ((np.arange(n, dtype=np.float32) + np.float32(0.5)) / n)[:, None, None]
        mass = length / n * (stroke.peak[..., 1:] + stroke.peak[..., :-1]) / 2
        u, v = column[..., :-1] + at * du, row[..., :-1] + at * dv
        return u.ravel(), v.ravel(), np.broadcast_to(mass, u.shape).ravel()
