"""The signs of Support Devices: tubes, wires and boxes."""

import numpy as np

from medsae_ray.core.phantom.anatomy import Chest
from medsae_ray.core.phantom.marks import Marks, line

Rng = np.random.Generator


def _tube(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw an endotracheal tube: two parallel walls down the trachea."""
    y = np.linspace(-1.0, float(rng.uniform(-0.42, -0.30)), 10)
    x = float(rng.normal(0, 0.01)) + chest.body.bend * np.cos(2.2 * y)
    for offset in (-0.018, 0.018):
        marks.fine.append(line(x + offset, y, 0.42))


def _central_line(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw a catheter from the neck to the heart's right border."""
    s = np.linspace(0, 1, 16)
    x = -0.24 + 0.13 * s + 0.05 * np.sin(3 * s)
    marks.fine.append(line(x, -0.98 + float(rng.uniform(0.80, 1.0)) * s, 0.45))


def _gastric_tube(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw a feeding tube down the midline into the stomach."""
    s = np.linspace(0, 1, 24)
    x = 0.03 + 0.30 * np.clip(s - 0.68, 0, 1) ** 1.3 * 2 + 0.012 * np.sin(5 * s)
    marks.fine.append(line(x, -1.0 + 1.72 * s, 0.40))


def _pacemaker(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw a generator in the upper chest and its lead to the heart."""
    side = 1 if rng.random() < 0.75 else -1
    x, y = side * float(rng.uniform(0.40, 0.52)), float(rng.uniform(-0.46, -0.34))
    marks.density += np.float32(0.60) * chest.canvas.disc(x, y, 0.095, 0.075, 0.15)
    s = np.linspace(0, 1, 24)
    lead_x = x * (1 - s) - side * 0.02 * s + 0.22 * np.clip(s - 0.55, 0, 1)
    lead_y = y - 0.14 * np.sin(np.pi * np.clip(s * 1.6, 0, 1)) + (0.66 * s**2)
    marks.fine.append(line(lead_x, lead_y, 0.50))


def _port(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw a port's ring on the chest with its catheter."""
    x, y = float(rng.uniform(-0.50, -0.38)), float(rng.uniform(-0.42, -0.30))
    ring = chest.canvas.disc(x, y, 0.062, 0.062, 0.2) - np.float32(0.7) * chest.canvas.disc(x, y, 0.034, 0.034, 0.3)
    marks.density += np.float32(0.55) * ring
    s = np.linspace(0, 1, 20)
    marks.fine.append(line(x + (-0.10 - x) * np.sqrt(s), y - 0.26 * np.sin(np.pi * s) + 0.30 * s, 0.42))


def _electrodes(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw discs on the skin and the wires that leave them."""
    s = np.linspace(0, 1, 20)
    exit_x = float(rng.uniform(-0.3, 0.3))
    for side, height in ((-1, -0.50), (1, -0.48), (-1, 0.30), (1, 0.34)):
        x, y = side * float(rng.uniform(0.42, 0.58)), height + float(rng.uniform(-0.06, 0.06))
        marks.density += np.float32(0.42) * chest.canvas.disc(x, y, 0.026, 0.026, 0.4)
        sag = 0.08 * np.sin(np.pi * s) * float(rng.uniform(-1, 1))
        marks.fine.append(line(x + (exit_x - x) * s + sag, y + (0.98 - y) * s**1.5, 0.30))


_LINES = (_tube, _central_line, _gastric_tube)
_DEVICES = (_pacemaker, _port, _electrodes)


def support_devices(rng: Rng, chest: Chest, marks: Marks) -> None:
    """Draw at least one line or tube and often a device on the chest."""
    lines = rng.permutation(len(_LINES))[: int(rng.integers(1, 4))]
    things = rng.permutation(len(_DEVICES))[: int(rng.integers(0, 3))]
    for k in lines:
        _LINES[k](rng, chest, marks)
    for k in things:
        _DEVICES[k](rng, chest, marks)
