"""The signs of each finding on a radiograph: caricatures, each of its own kind, not medicine.

A finding may change the body's measures (RESHAPE), and it may leave shadows, strokes, broken ribs or lung without
vessels (DRAW). Each draws from a random stream of its own, so that removing one finding leaves the others as they are.

Legend: side, t, x, y as in body.py; i = 0, 1 counts the lungs from the left of the picture; density maps are [H, W].
"""

from collections.abc import Callable

import numpy as np

from medsae_ray.core.phantom.anatomy import Chest
from medsae_ray.core.phantom.body import SIDES, Body, edge_at, lateral_edge
from medsae_ray.core.phantom.canvas import Array, cloud, smooth
from medsae_ray.core.phantom.devices import support_devices
from medsae_ray.core.phantom.marks import Marks, line

Rng = np.random.Generator

CHRONIC = ("Cardiomegaly", "Enlarged Cardiomediastinum", "Lung Lesion", "Pleural Other")
"""The findings that look the same in all studies of a patient."""


def _side(rng: Rng) -> int:
    return int(rng.integers(2))


def _spot(rng: Rng, body: Body, low: float, high: float) -> tuple[float, float]:
    """Draw (t, y) inside a lung, its height between the shares low and high of the way from apex to dome."""
    y = body.apex + (min(body.domes) - body.apex) * float(rng.uniform(low, high))
    edge = edge_at(body, y)
    inner = body.mediastinum + 0.10 + (0.10 if y > 0 else 0.0)
    return float(rng.uniform(inner, max(edge - 0.10, inner + 0.02))), y


# --- changes of shape -------------------------------------------------------------------------------------------------


def _cardiomegaly(rng: Rng, body: Body) -> Body:
    ratio = float(rng.uniform(0.58, 0.70))
    grow = max(ratio * 2 * body.half_width / sum(body.heart), 1.15)
    return body._replace(heart=(body.heart[0] * grow, min(body.heart[1] * grow, body.half_width * 0.97)))


def _wide_mediastinum(rng: Rng, body: Body) -> Body:
    return body._replace(bulge=float(rng.uniform(0.21, 0.29)), knob=body.knob * 1.2)


def _volume_loss(rng: Rng, body: Body) -> Body:
    side, lift = _side(rng), float(rng.uniform(0.03, 0.09))
    domes = (body.domes[0] - lift * (side == 0), body.domes[1] - lift * (side == 1))
    return body._replace(domes=domes)


RESHAPE: dict[str, Callable[[Rng, Body], Body]] = {
    "Cardiomegaly": _cardiomegaly,
    "Enlarged Cardiomediastinum": _wide_mediastinum,
    "Atelectasis": _volume_loss,
}


# --- shadows ----------------------------------------------------------------------------------------------------------


def _lung_opacity(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw a vague veil over one zone of one lung, its vessels still visible."""
    i = _side(rng)
    t, y = _spot(rng, chest.body, 0.25, 0.75)
    veil = chest.canvas.blob(SIDES[i] * t, y, float(rng.uniform(0.17, 0.24)), float(rng.uniform(0.22, 0.32)))
    marks.density += np.float32(rng.uniform(0.11, 0.17)) * veil * chest.lungs[i]


def _edema(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw bat wings: haze about both hila, and short horizontal lines at the outer bases (Kerley's B lines)."""
    body, strength = chest.body, float(rng.uniform(0.14, 0.24))
    grain = 1 + np.float32(0.22) * cloud(rng, 36)
    for i, side in enumerate(SIDES):
        wing = chest.canvas.blob(side * (body.mediastinum + 0.14), -0.08, 0.14, 0.24)
        marks.density += np.float32(strength) * wing * grain * chest.lungs[i]
        n = int(rng.integers(9, 15))
        rows = np.linspace(body.domes[i] - 0.38, body.domes[i] + 0.0, n) + rng.uniform(-0.015, 0.015, n)
        for y in rows.astype(np.float32):
            outer = edge_at(body, y) - 0.012
            t = np.linspace(outer - float(rng.uniform(0.08, 0.15)), outer, 3)
            marks.fine.append(line(side * t, y + np.array([0.012, 0.004, 0]), float(rng.uniform(0.5, 1.0)) * strength))


def _consolidation(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw one dense patch with a ragged rim, and the dark branching air of the bronchi inside it."""
    i = _side(rng)
    t, y = _spot(rng, chest.body, 0.30, 0.80)
    x, rx, ry = SIDES[i] * t, float(rng.uniform(0.12, 0.18)), float(rng.uniform(0.12, 0.20))
    level = chest.canvas.blob(x, y, rx, ry) + np.float32(0.07) * cloud(rng, 16)
    patch = smooth(level - 0.50, 0.30) * chest.lungs[i]
    marks.density += np.float32(rng.uniform(0.24, 0.34)) * patch
    marks.aerated *= 1 - np.float32(0.9) * patch
    s = np.linspace(0, 1, 8)
    for angle in np.linspace(-0.75, 0.75, int(rng.integers(4, 6))) + rng.uniform(-0.1, 0.1):
        px = x + SIDES[i] * rx * (1.9 * s * np.cos(angle) - 0.95)
        py = y + ry * (1.9 * s * np.sin(angle) + 0.1 * np.sin(5 * s + 9 * angle))
        inside = chest.canvas.sample(patch, px.astype(np.float32), py.astype(np.float32))
        marks.fine.append(line(px, py, -0.15 * inside))


def _pneumonia(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw several fluffy mottled clouds, scattered through one lung or both."""
    both = rng.random() < 0.5
    first = _side(rng)
    mottle = np.clip(np.float32(0.45) + np.float32(0.75) * cloud(rng, 40), 0, 2)
    clouds = np.zeros_like(marks.density)
    for k in range(int(rng.integers(6, 10))):
        i = (first + k) % 2 if both else first
        t, y = _spot(rng, chest.body, 0.25, 0.90)
        r = float(rng.uniform(0.06, 0.10))
        clouds += chest.canvas.blob(SIDES[i] * t, y, r, r * float(rng.uniform(0.8, 1.3))) * chest.lungs[i]
    marks.density += np.float32(rng.uniform(0.20, 0.30)) * np.minimum(clouds, 1) * mottle


def _atelectasis(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw plates: a few nearly horizontal bands above a raised dome (on the side that `_volume_loss` drew)."""
    i = _side(rng)
    body = chest.body
    for other in (False, True):
        if other and rng.random() < 0.6:
            continue
        j = 1 - i if other else i
        tilt = float(rng.uniform(-0.35, 0.15))
        for k in range(int(rng.integers(2, 5))):
            middle = float(rng.uniform(0.50, 0.68)) * body.half_width
            s = np.linspace(-0.5, 0.5, 8) * float(rng.uniform(0.28, 0.44))
            y = body.domes[j] - 0.06 - 0.065 * k + tilt * s + 0.15 * s * s + float(rng.uniform(-0.01, 0.01))
            x = SIDES[j] * (middle + s)
            taper = np.sqrt(np.clip(1 - np.square(np.linspace(-1, 1, 8)), 0, 1))
            marks.broad.append(line(x, y, float(rng.uniform(0.20, 0.32)) * taper))


def _pneumothorax(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw a dark rim without vessels between the chest wall and the thin bright line of the visceral pleura."""
    i = _side(rng)
    body, t, y = chest.body, chest.t, chest.canvas.y
    rim, fade = float(rng.uniform(0.08, 0.20)), float(rng.uniform(0.55, 0.95))

    def pleura(height: Array) -> Array:
        down = np.clip((height - np.float32(body.apex)) / np.float32(1.15), 0, 1)
        width = np.float32(rim) * np.clip(1.2 - down * np.float32(fade), 0.12, None)
        drop = np.float32(0.55 * rim)  # the lung sinks away from the apex
        return lateral_edge(body, height - drop) - width

    free = chest.lungs[i] * smooth(t - pleura(y), 0.015)
    marks.density -= np.float32(rng.uniform(0.10, 0.15)) * free
    marks.aerated *= 1 - free
    height = np.linspace(body.apex + 0.02, body.domes[i] - 0.03, 40, dtype=np.float32)
    at = pleura(height)
    seen = at > body.mediastinum
    if seen.any():
        marks.fine.append(line(SIDES[i] * at[seen], height[seen], float(rng.uniform(0.26, 0.36))))


def _effusion(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw fluid in the costophrenic angle with a meniscus that climbs the chest wall; sometimes on both sides."""
    first = _side(rng)
    for i in (first, 1 - first) if rng.random() < 0.35 else (first,):
        body, t = chest.body, chest.t
        depth = float(rng.uniform(0.12, 0.42))
        share = np.clip(t / np.float32(body.half_width), 0, 1.1)
        level = body.domes[i] + np.float32(0.10) - np.float32(depth) * (np.float32(0.45) + np.float32(0.75) * share**4)
        fluid = smooth(chest.canvas.y - level, 0.05) * chest.lungs[i]
        marks.density += np.float32(rng.uniform(0.30, 0.40)) * fluid
        marks.aerated *= 1 - fluid


def _pleural_other(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw thick bright plaques along the inner chest wall, lumpy and in part calcified."""
    i = _side(rng)
    body = chest.body
    for _ in range(int(rng.integers(1, 3))):
        top = float(rng.uniform(-0.45, -0.05))
        y = np.linspace(top, top + float(rng.uniform(0.25, 0.42)), 14, dtype=np.float32)
        swell = np.sin(np.linspace(0.15, np.pi - 0.15, 14)) * (1 + 0.3 * rng.standard_normal(14))
        peak = float(rng.uniform(0.34, 0.48))
        for inset in (0.012, 0.030, 0.048):
            t = lateral_edge(body, y) - inset
            marks.broad.append(line(SIDES[i] * t, y, peak * np.clip(swell - 8 * (inset - 0.012), 0, 1.3)))


def _lung_lesion(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw one to three round nodules with a clear rim."""
    for _ in range(int(rng.choice([1, 1, 2, 3]))):
        i = _side(rng)
        t, y = _spot(rng, chest.body, 0.15, 0.80)
        r = float(rng.uniform(0.048, 0.085))
        nodule = chest.canvas.disc(SIDES[i] * t, y, r, r * float(rng.uniform(0.9, 1.1)), 0.35)
        marks.density += np.float32(rng.uniform(0.22, 0.34)) * nodule


def _fracture(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw two to four neighbouring ribs that step out of line, a dark gap, and a knob of callus on each."""
    i = _side(rng)
    body, t = chest.body, chest.t
    ladder_top = float(rng.uniform(-0.40, 0.05))
    n = int(rng.integers(2, 5))
    t0 = edge_at(body, ladder_top) - float(rng.uniform(0.07, 0.17))
    height = body.rib_spacing * n
    zone = smooth(height / 2 + 0.02 - np.abs(chest.canvas.y - np.float32(ladder_top + height / 2)), 0.08)
    zone *= chest.canvas.x * SIDES[i] > 0
    marks.breaks += np.float32(rng.choice([-1, 1]) * 0.42) * zone * smooth(t - np.float32(t0), 0.02)
    slope = 0.05 * t0 + 0.55 * t0**3
    first = np.ceil((ladder_top - slope) / body.rib_spacing + body.rib_phase)
    for k in range(n):
        y = (first + k - body.rib_phase) * body.rib_spacing + slope
        r = float(rng.uniform(0.030, 0.042))
        marks.density += np.float32(rng.uniform(0.22, 0.32)) * chest.canvas.blob(SIDES[i] * (t0 - 0.02), y, r, r * 0.8)
        gap = np.linspace(y - 0.032, y + 0.032, 4)
        marks.fine.append(line(np.full(4, SIDES[i] * (t0 + 0.015)), gap, -0.20))


DRAW: dict[str, Callable[[Rng, Chest, Marks], None]] = {
    "Lung Opacity": _lung_opacity,
    "Edema": _edema,
    "Consolidation": _consolidation,
    "Pneumonia": _pneumonia,
    "Atelectasis": _atelectasis,
    "Pneumothorax": _pneumothorax,
    "Pleural Effusion": _effusion,
    "Pleural Other": _pleural_other,
    "Lung Lesion": _lung_lesion,
    "Fracture": _fracture,
    "Support Devices": support_devices,
}
