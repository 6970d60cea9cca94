"""The measures of a made-up patient, and the outlines that follow from them.

Legend: side = -1 is the left of the picture (the patient's right), +1 the right of the picture; t = side * x is the
distance from the midline, positive inside that half.
"""

from typing import NamedTuple

import numpy as np

from medsae_ray.core.phantom.canvas import Array, Floats

SIDES = (-1, 1)


class Body(NamedTuple):
    """The measures of a patient in half-widths of the film; pairs are (left of the picture, right of the picture)."""

    half_width: float
    """The inner half-width of the thorax."""
    apex: float
    """The height (y) of the lung apices."""
    domes: tuple[float, float]
    """The heights (y) of the two domes of the diaphragm."""
    wall: float
    """The thickness of the soft tissue outside the ribs: habitus."""
    heart: tuple[float, float]
    """The reach of the heart to either side of the midline."""
    mediastinum: float
    """The half-width of the upper mediastinum."""
    bulge: float
    """The half-width of a mass in the upper mediastinum; 0 in health."""
    knob: float
    """The radius of the aortic knob."""
    breasts: float
    """The size of the breast shadows; 0 in men."""
    scapulae: float
    """The overlap of the scapulae with the lungs."""
    clavicles: float
    """The height (y) of the inner ends of the clavicles."""
    rib_spacing: float
    rib_phase: float
    bone: float
    """The contrast of bone, falling with age."""
    bend: float
    """The sideways bend of the spine."""
    marking: float
    """The contrast of the vessels."""


def draw_body(rng: np.random.Generator, sex: str, age: int) -> Body:
    """Draw a patient's measures in a PA view with full inspiration."""
    female = sex == "F"
    habitus = float(np.clip(rng.normal(0, 1), -1.6, 2.2))
    half = float(np.clip(rng.normal(0.60 if female else 0.64, 0.03), 0.53, 0.71))
    dome = float(rng.normal(0.40, 0.04))
    ratio = float(np.clip(rng.normal(0.435 + 0.0004 * (age - 50), 0.02), 0.38, 0.475))
    return Body(
        half_width=half,
        apex=float(rng.normal(-0.74, 0.025)),
        domes=(dome, dome + float(rng.uniform(0.02, 0.07))),
        wall=0.10 + 0.035 * habitus + float(rng.uniform(0, 0.03)),
        heart=_heart(rng, ratio * 2 * half),
        mediastinum=float(np.clip(rng.normal(0.115, 0.01), 0.09, 0.14)),
        bulge=0.0,
        knob=0.055 + 0.0004 * max(age - 40, 0) + float(rng.uniform(0, 0.01)),
        breasts=float(np.clip(rng.normal(0.25 + 0.03 * habitus, 0.03), 0.17, 0.36)) if female else 0.0,
        scapulae=float(rng.uniform(-0.08, 0.0)),
        clavicles=float(rng.normal(-0.58, 0.02)),
        rib_spacing=float(rng.normal(0.128, 0.006)),
        rib_phase=float(rng.uniform(0, 1)),
        bone=float(rng.uniform(0.8, 1.2)) * (1.15 - 0.005 * max(age - 40, 0)),
        bend=float(rng.normal(0, 0.012)),
        marking=float(rng.uniform(0.8, 1.15)),
    )


def _heart(rng: np.random.Generator, width: float) -> tuple[float, float]:
    share = float(rng.uniform(0.30, 0.36))
    return width * share, width * (1 - share)


def as_ap(body: Body, rng: np.random.Generator) -> Body:
    """Return the patient lying: heart magnified, breath shallow, scapulae over the lungs, clavicles high."""
    lift = float(rng.uniform(0.04, 0.10))
    grow = float(rng.uniform(1.04, 1.09))
    return body._replace(
        domes=(body.domes[0] - lift, body.domes[1] - lift),
        heart=(body.heart[0] * grow, body.heart[1] * grow),
        mediastinum=body.mediastinum * 1.06,
        scapulae=body.scapulae + float(rng.uniform(0.16, 0.24)),
        clavicles=body.clavicles - float(rng.uniform(0.04, 0.09)),
    )


def lateral_edge(body: Body, y: Floats) -> Array:
    """Return t of the inner chest wall at height y: an arch that narrows towards the apex, straight below."""
    widest, height = np.float32(0.10), np.asarray(y, np.float32)
    up = np.clip((widest - height) * np.float32(1 / (widest - body.apex)), 0, 1)
    arch = np.sqrt(1 - up * up * np.sqrt(up)) * (1 - np.float32(0.10) * up)
    edge: Array = np.float32(body.half_width) * (arch + np.float32(0.06) * np.maximum(height - widest, 0))
    return edge


def edge_at(body: Body, y: float) -> float:
    """Return `lateral_edge` at one height."""
    return float(lateral_edge(body, np.array([y]))[0])


def dome_edge(body: Body, side: int, t: Array) -> Array:
    """Return y of the diaphragm at t: a dome that falls towards the costophrenic angle."""
    lateral = (t - np.float32(0.42 * body.half_width)) / np.float32(body.half_width)
    fall = np.where(lateral > 0, np.float32(0.62), np.float32(0.30))
    edge: Array = np.float32(body.domes[side > 0]) + fall * lateral * lateral
    return edge
