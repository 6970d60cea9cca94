"""The shadows of a healthy chest: trunk, lungs, heart, bones and vessels.

Legend: side, t, x, y as in body.py; ribs are drawn from a "ladder", a coordinate that is a whole number on the centre
line of each posterior rib, so that one cosine draws them all.
"""

from typing import NamedTuple

import numpy as np

from medsae_ray.core.phantom.body import SIDES, Body, dome_edge, lateral_edge
from medsae_ray.core.phantom.canvas import Array, Canvas, Floats, Stroke, cloud, smooth


class Chest(NamedTuple):
    """The maps [H, W] of one chest that the findings draw with."""

    canvas: Canvas
    body: Body
    t: Array
    """The distance from the bent midline, on either side."""
    edge: Array
    """The t of the inner chest wall at each pixel."""
    centre: Array
    """The central shadow of great vessels and heart, 0..1."""
    lungs: tuple[Array, Array]
    """The lungs outside the central shadow, 0..1, left and right of the picture."""
    ribs: Array
    """The position along the ladder of posterior ribs: a whole number on each rib's centre line."""
    ladder: Array
    """The area with ribs, 0..1."""


def lay_out(canvas: Canvas, body: Body) -> Chest:
    """Return the geometry of a chest, before anything is drawn."""
    y, midline = canvas.y, np.float32(body.bend) * np.cos(np.float32(2.2) * canvas.y)
    right_half = canvas.x > midline
    t = np.abs(canvas.x - midline)
    edge = lateral_edge(body, y)
    dome = np.where(right_half, dome_edge(body, 1, t), dome_edge(body, -1, t))
    air = smooth(edge - t, 0.035) * smooth(t - np.float32(body.mediastinum * 0.75), 0.05) * smooth(dome - y, 0.03)
    centre = _central_shadow(canvas, body)
    air *= 1 - np.float32(0.9) * centre
    slope = np.float32(0.05) * t + np.float32(0.55) * t * t * t
    ribs = (y - slope) * np.float32(1 / body.rib_spacing) + np.float32(body.rib_phase)
    ladder = smooth(edge + np.float32(0.03) - t, 0.05) * smooth(t - np.float32(0.07), 0.08) * smooth(0.62 - y, 0.25)
    return Chest(canvas, body, t, edge, centre, (air * ~right_half, air * right_half), ribs, ladder)


def soft_tissue(chest: Chest) -> Array:
    """Return density [H, W] of all but bone: the trunk, the lungs' air, the mediastinum, the heart and the breasts."""
    body, canvas, y = chest.body, chest.canvas, chest.canvas.y
    trunk = _trunk(chest)
    density = np.float32(0.58 + 0.5 * (body.wall - 0.1)) * trunk
    density += np.float32(0.24) * smooth(y - np.float32(max(body.domes) - 0.02), 0.30) * trunk  # the abdomen
    density -= np.float32(0.40) * (chest.lungs[0] + chest.lungs[1]) * (1 - np.float32(0.18) * smooth(y - 0.1, 0.9))
    density += np.float32(0.24) * chest.centre * trunk
    for side in SIDES:
        density += np.float32(0.08) * canvas.blob(side * (body.mediastinum + 0.05), -0.11, 0.045, 0.085)
    if body.breasts:
        density += _breasts(chest)
    density -= np.float32(0.14) * canvas.disc(0.30, body.domes[1] + 0.14, 0.10, 0.06, 0.6)  # the stomach's air
    windpipe = np.abs(canvas.x - np.float32(body.bend))
    density -= np.float32(0.15) * smooth(0.036 - windpipe, 0.03) * smooth(-0.28 - y, 0.12)
    return density


def _trunk(chest: Chest) -> Array:
    """Return the area of the body, 0..1: trunk, shoulders and upper arms, neck."""
    body, y, t = chest.body, chest.canvas.y, np.abs(chest.canvas.x)
    outer = np.maximum(chest.edge, np.float32(body.half_width * 0.97)) + np.float32(body.wall)
    shoulder = np.float32(-0.94) + np.float32(0.32) * t * t
    arm = smooth(np.float32(-0.16) - y + np.float32(1.1) * (t - outer), 0.30)
    arm *= smooth(np.float32(1.02) - t + np.float32(0.25) * y, 0.15)
    trunk = np.maximum(smooth(outer - t, 0.12), arm) * smooth(y - shoulder, 0.10)
    neck = smooth(np.float32(0.22) - t + np.float32(0.8) * np.maximum(y + np.float32(0.95), 0), 0.12)
    joined: Array = np.maximum(trunk, neck * smooth(-0.5 - y, 0.2))
    return joined


def _central_shadow(canvas: Canvas, body: Body) -> Array:
    """Return great vessels, aortic knob, heart and a wide mediastinum, 0..1."""
    y = canvas.y
    width = np.float32(body.mediastinum) * (1 + np.float32(0.25) * np.clip(-y - np.float32(0.45), 0, 1))
    low = min(body.domes) - 0.01
    core = smooth(width - np.abs(canvas.x), 0.06) * (1 - np.float32(0.8) * smooth(y - np.float32(low), 0.2))
    right, left = body.heart
    centre, half = (left - right) / 2, (left + right) / 2
    parts = (
        canvas.disc(body.mediastinum * 0.72, -0.33, body.knob * 1.1, body.knob * 1.25, 0.5),
        canvas.disc(centre + 0.08 * half, low - 0.52 * half, half * 0.97, half * 0.72, 0.14, tilt=0.50),
        canvas.disc(-right * 0.40, low - 0.17, right * 0.60, 0.22, 0.30),
        canvas.disc(0.05, low - 0.40, 0.13, 0.24, 0.35),
        canvas.disc(-0.01, -0.40, max(body.bulge, 0.01), 0.34, 0.15),
    )
    for part in parts:
        np.maximum(core, part, out=core)
    return core


def _breasts(chest: Chest) -> Array:
    """Return two shadows that fade in from above and end in a clear lower rim."""
    body, r = chest.body, chest.body.breasts
    low = body.domes[0] - 0.02
    shadow = np.zeros_like(chest.edge)
    for side in SIDES:
        outline = chest.canvas.disc(side * body.half_width * 0.64, low - 0.55 * r, r * 1.25, r, 0.12)
        shadow += outline * smooth(chest.canvas.y - np.float32(low - 0.6 * r), 1.5 * r)
    return np.float32(0.13) * shadow


def bones(chest: Chest, breaks: Array | None = None) -> Array:
    """Return the density [H, W] of ribs, spine and humeral heads; `breaks` [H, W] shifts the ladder (fractures)."""
    body, canvas, y = chest.body, chest.canvas, chest.canvas.y
    phase = chest.ribs if breaks is None else chest.ribs + breaks
    wave = np.cos(np.float32(2 * np.pi) * phase)
    rib = smooth(wave - 0.10, 0.5) * (np.float32(1.35) - np.float32(0.6) * wave)  # brighter at the rims: cortex
    t = np.abs(canvas.x)
    front = (y + np.float32(0.55) * t + np.float32(0.25) * t * t) * np.float32(1 / (1.12 * body.rib_spacing))
    anterior = smooth(np.cos(np.float32(2 * np.pi) * front) - 0.2, 0.8) * smooth(t - 0.22, 0.2)
    density = chest.ladder * (np.float32(0.075) * rib + np.float32(0.030) * anterior)
    rim = (t - chest.edge) * np.float32(1 / 0.022)
    density += np.float32(0.05) * np.exp(-rim * rim) * smooth(0.6 - y, 0.3)
    spine = np.abs(canvas.x - np.float32(body.bend) * np.cos(np.float32(2.2) * y))
    discs = np.cos(y * np.float32(2 * np.pi / (0.9 * body.rib_spacing)))
    density += smooth(0.075 - spine, 0.03) * (np.float32(0.055) + np.float32(0.02) * discs)
    for side in SIDES:
        density += np.float32(0.14) * canvas.disc(side * (body.half_width + body.wall + 0.13), -0.66, 0.10, 0.11, 0.3)
    shadow: Array = np.float32(body.bone) * density
    return shadow


def bone_strokes(body: Body) -> list[Stroke]:
    """Return clavicles and scapulae, two strokes of the broad pen for each: their rims."""
    s = np.linspace(0, 1, 12)
    strokes = []
    for side in SIDES:
        reach = body.half_width + body.wall + 0.05
        x = side * (0.09 + (reach - 0.09) * s)
        y = body.clavicles - 0.13 * s - 0.03 * np.sin(2 * np.pi * s)
        root = body.half_width + 0.10 - body.scapulae  # the blade's upper corner; its tip points down and inwards
        blade_y = -0.62 + 0.62 * s
        blade_x = side * (root - 0.12 * np.sin(np.pi * s * 0.6) - 0.03 * s)
        outer_x = side * (root + 0.13 * (1 - s) - 0.12 * s)
        for line_x, line_y, peak in (
            (x, y - 0.014, 0.10 + 0 * s),
            (x, y + 0.014, 0.10 + 0 * s),
            (blade_x, blade_y, 0.085 * (1 - 0.4 * s)),
            (outer_x, blade_y, 0.070 * (1 - 0.3 * s)),
        ):
            strokes.append(Stroke(*(np.asarray(v, np.float32) for v in (line_x, line_y, body.bone * peak))))
    return strokes


def vessels(rng: np.random.Generator, chest: Chest, aerated: Array) -> Stroke:
    """Draw vessels that fork from the hila and thin outwards, visible only where `aerated` [H, W] is not 0."""
    n, forks = 22, 3  # stems, half of them in each lung, and twigs a stem
    side = np.repeat([-1.0, 1.0], n // 2)[:, None]
    angle = np.tile(np.linspace(-1.35, 1.45, n // 2), 2) + rng.uniform(-0.14, 0.14, n)
    length = rng.uniform(0.30, 0.52, n) * (1 + 0.25 * np.abs(angle))
    start = np.stack([np.full(n, chest.body.mediastinum + 0.05), rng.uniform(-0.2, -0.02, n)])
    s = np.linspace(0, 1, 14)
    stems = _branches(start, angle, length, rng.normal(0.3, 0.4, n) * np.sign(angle), s)
    fork = rng.integers(3, 11, (forks, n))
    root = np.stack([stems[:, np.arange(n), k] for k in fork], axis=1).reshape(2, -1)
    turn = (angle + rng.choice([-1, 1], (forks, n)) * rng.uniform(0.35, 0.75, (forks, n))).ravel()
    reach = (length * rng.uniform(0.35, 0.6, (forks, n))).ravel()
    twigs = _branches(root, turn, reach, rng.normal(0, 0.5, forks * n), s)
    ty = np.concatenate([stems, twigs], axis=1).astype(np.float32)
    x, y = (np.tile(side, (1 + forks, 1)) * ty[0]).astype(np.float32), ty[1]
    stem_peak = np.tile(0.13 * (1 - 0.75 * s), (n, 1))
    twig_peak = 0.095 * (1 - 0.045 * fork.reshape(-1, 1)) * (1 - 0.8 * s)
    peak = chest.body.marking * np.concatenate([stem_peak, twig_peak]) * chest.canvas.sample(aerated, x, y)
    return Stroke(x, y, peak.astype(np.float32))


def _branches(start: Floats, angle: Floats, length: Floats, curl: Floats, s: Floats) -> Floats:
    """Return curved twigs (t, y) [2, twigs, points] of starts [2, twigs], headings, lengths and curls [twigs]."""
    heading = angle[:, None] + curl[:, None] * s + 0.25 * np.sin(7 * s + 40 * angle[:, None])
    step = length[:, None] / len(s)
    walk = np.stack([np.cumsum(np.cos(heading) * step, 1), np.cumsum(np.sin(heading) * step, 1)])
    return start[..., None] + walk


def parenchyma(rng: np.random.Generator, chest: Chest) -> Array:
    """Return a faint texture [H, W] of the lungs and the soft tissue."""
    air = chest.lungs[0] + chest.lungs[1]
    texture: Array = np.float32(0.012) * cloud(rng, 48) * air + np.float32(0.015) * cloud(rng, 10)
    return texture
