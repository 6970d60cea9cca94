"""What the findings of one image add to the healthy chest."""

from dataclasses import dataclass, field

import numpy as np

from medsae_ray.core.phantom.canvas import Array, Floats, Stroke


@dataclass
class Marks:
    """Maps [H, W] and strokes that findings add to, in place."""

    density: Array
    aerated: Array
    """Where vessels show, 0..1."""
    breaks: Array
    """Shift of the ladder of ribs, in ribs."""
    fine: list[Stroke] = field(default_factory=list)
    """Strokes of a pen of 0.7 pixels."""
    broad: list[Stroke] = field(default_factory=list)
    """Strokes of a pen of 1.8 pixels."""


def line(x: Floats, y: Floats, peak: float | Floats) -> Stroke:
    """A polyline, its density one number or one a point."""
    return Stroke(x, y, np.broadcast_to(np.asarray(peak), x.shape))
