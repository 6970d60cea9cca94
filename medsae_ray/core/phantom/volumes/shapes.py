"""Ellipsoids and tubes on a grid of voxels, in the coordinates of a standard body.

Legend: X, Y, Z voxels to the patient's Right, Anterior and Superior; x, y, z millimetres of the standard body in the
same directions, z from the seat upwards; P points of a tube.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Point = tuple[float, float, float]
Window = tuple[slice, slice, slice]


class Frame(NamedTuple):
    """The place of a grid's voxels, and of the patient in the scanner."""

    shape: tuple[int, int, int]
    """The voxels X, Y, Z."""
    spacing: float
    """The side of a voxel in millimetres."""
    origin: Point
    """The centre of the first voxel, in millimetres of the scanner."""
    scale: Point
    """The patient's size over the standard body's, by axis."""
    turn: float
    """The patient's rotation about the long axis, in radians."""


class Grid:
    """The voxels' centres in the standard body: `x`, `y` and `z`, each float32 [X, Y, Z]."""

    def __init__(self, frame: Frame) -> None:
        axes = (np.arange(n) * frame.spacing + start for n, start in zip(frame.shape, frame.origin, strict=True))
        u, v, w = np.meshgrid(*(axis.astype(np.float32) for axis in axes), indexing="ij", sparse=True)
        self._c, self._s = float(np.cos(frame.turn)), float(np.sin(frame.turn))
        self.x: Array = ((self._c * u + self._s * v) / frame.scale[0] + 0 * w).astype(np.float32)
        self.y: Array = ((self._c * v - self._s * u) / frame.scale[1] + 0 * w).astype(np.float32)
        self.z: Array = (w / frame.scale[2] + 0 * u + 0 * v).astype(np.float32)
        self.frame = frame

    def window(self, centre: Point, reach: float) -> Window:
        """Return the voxels that may be within `reach` of a point; none if it is outside."""
        at = np.multiply(centre, self.frame.scale)
        turned = (self._c * at[0] - self._s * at[1], self._s * at[0] + self._c * at[1], at[2])
        far = reach * max(self.frame.scale) / self.frame.spacing + 1
        ends = []
        for place, start, count in zip(turned, self.frame.origin, self.frame.shape, strict=True):
            middle = (place - start) / self.frame.spacing
            ends.append(slice(*(int(np.clip(end, 0, count)) for end in (middle - far, middle + far + 1))))
        return ends[0], ends[1], ends[2]


class Shape(Protocol):
    """A body in space."""

    def inside(self, grid: Grid) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
        """Yield windows of the grid with the voxels that are inside."""

    def changed(self, shift: Point, grow: float) -> "Shape":
        """Return the shape, moved and enlarged about its own middle."""


class Ellipsoid(NamedTuple):
    """An ellipsoid, cut by planes."""

    centre: Point
    radii: Point
    tilt: float = 0.0
    """The rotation in the frontal plane, in radians: the upper end moves to the patient's right."""
    power: float = 2.0
    """The exponent: above 2 it is boxier."""
    planes: tuple[tuple[float, float, float, float], ...] = ()
    """(a, b, c, d): only points with ax + by + cz >= d belong to it."""

    def inside(self, grid: Grid) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
        """Yield one window."""
        window = grid.window(self.centre, 1.3 * max(self.radii))
        x, y, z = (axis[window] for axis in (grid.x, grid.y, grid.z))
        px, py, pz = (axis - np.float32(at) for axis, at in zip((x, y, z), self.centre, strict=True))
        if self.tilt:
            c, s = np.float32(np.cos(self.tilt)), np.float32(np.sin(self.tilt))
            px, pz = c * px - s * pz, c * pz + s * px
        scaled = (
            np.abs(p / np.float32(r)) ** np.float32(self.power) for p, r in zip((px, py, pz), self.radii, strict=True)
        )
        found = sum(scaled) <= 1
        for a, b, c_, d in self.planes:
            found &= a * x + b * y + c_ * z >= d
        yield window, found

    def changed(self, shift: Point, grow: float) -> "Ellipsoid":
        """Return the ellipsoid moved and enlarged; its planes move along."""
        centre, radii = _moved(self.centre, shift), _point(np.multiply(self.radii, grow))
        planes = tuple((a, b, c, d + float(np.dot((a, b, c), shift))) for a, b, c, d in self.planes)
        return self._replace(centre=centre, radii=radii, planes=planes)

    def mirrored(self) -> "Ellipsoid":
        """Return the ellipsoid on the other side of the body."""
        x, y, z = self.centre
        planes = tuple((-a, b, c, d) for a, b, c, d in self.planes)
        return self._replace(centre=(-x, y, z), tilt=-self.tilt, planes=planes)


class Tube(NamedTuple):
    """A bent tube."""

    points: tuple[Point, ...]
    radius: float

    def inside(self, grid: Grid) -> Iterator[tuple[Window, NDArray[np.bool_]]]:
        """Yield a window for each straight piece."""
        for start, end in zip(self.points[:-1], self.points[1:], strict=True):
            a, along = np.array(start, np.float32), np.subtract(end, start).astype(np.float32)
            length2 = max(float(along @ along), 1e-6)
            middle = a + along / 2
            window = grid.window(_point(middle), float(np.sqrt(length2)) / 2 + self.radius)
            p = [axis[window] - at for axis, at in zip((grid.x, grid.y, grid.z), a, strict=True)]
            share = np.clip(sum(q * d for q, d in zip(p, along, strict=True)) / np.float32(length2), 0, 1)
            off2 = sum((q - share * d) ** 2 for q, d in zip(p, along, strict=True))
            yield window, off2 <= np.float32(self.radius**2)

    def changed(self, shift: Point, grow: float) -> "Tube":
        """Return the tube moved and thickened."""
        return Tube(tuple(_moved(point, shift) for point in self.points), grow * self.radius)

    def mirrored(self) -> "Tube":
        """Return the tube on the other side of the body."""
        return self._replace(points=tuple((-x, y, z) for x, y, z in self.points))


def _moved(point: Point, shift: Point) -> Point:
    return _point(np.add(point, shift))


def _point(values: NDArray[Any]) -> Point:
    x, y, z = (float(value) for value in values)
    return x, y, z
