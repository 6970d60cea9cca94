"""The marks of one image's findings on the healthy chest."""

from dataclasses import dataclass, field

import numpy as np

from medsae_ray.core.phantom.canvas import Array, Floats, Stroke


@dataclass
class Marks:
    """The maps [H, W] and strokes that findings add to, in place."""

    density: Array
    aerated: Array
    """The visibility of vessels, 0..1."""
    breaks: Array
    """The shift of the ladder of ribs, in ribs."""
    fine: list[Stroke] = field(default_factory=list)
    """The strokes of a pen of 0.7 pixels."""
    broad: list[Stroke] = field(default_factory=list)
    """The strokes of a pen of 1.8 pixels."""


def line(x: Floats, y: Floats, peak: float | Floats) -> Stroke:
    """Return a polyline with one density, or one for each point."""
    return Stroke(x, y, np.broadcast_to(np.asarray(peak), x.shape))
