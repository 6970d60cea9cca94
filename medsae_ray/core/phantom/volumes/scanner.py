"""The scanner: from tissues to Hounsfield units or an MRI's signal, with an institute's noise, blur and table."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medsae_ray.core.phantom.volumes.body import Labels, Scene, Tissue
from medsae_ray.core.phantom.volumes.people import Institute, Person
from medsae_ray.core.phantom.volumes.shapes import Array

Voxels = NDArray[np.int16]
WHITE = 1000
"""An MRI's signal of the brightest tissue."""

_SIGNAL = {  # Hounsfield units, with contrast medium; MRI's signal, T1- and T2-weighted, in thousandths
    Tissue.AIR: (-1000, 0, 0),
    Tissue.LUNG: (-830, 60, 70),
    Tissue.FAT: (-100, 920, 640),
    Tissue.MUSCLE: (55, 380, 230),
    Tissue.BONE: (520, 90, 80),
    Tissue.MARROW: (240, 680, 450),
    Tissue.BLOOD: (150, 240, 160),
    Tissue.ARTERY: (240, 130, 90),
    Tissue.HEART: (140, 400, 300),
    Tissue.LIVER: (108, 560, 330),
    Tissue.SPLEEN: (125, 360, 570),
    Tissue.KIDNEY: (185, 420, 680),
    Tissue.PANCREAS: (85, 620, 420),
    Tissue.BOWEL: (40, 330, 520),
    Tissue.STOMACH: (25, 260, 800),
    Tissue.FLUID: (8, 150, 1000),
    Tissue.BILE: (12, 200, 960),
    Tissue.GLAND: (70, 430, 500),
    Tissue.THYROID: (175, 520, 560),
    Tissue.BRAIN: (36, 500, 520),
    Tissue.CORD: (35, 480, 420),
    Tissue.LESION: (48, 300, 760),
    Tissue.HAEMATOMA: (78, 800, 300),
    Tissue.PLAQUE: (650, 40, 40),
    Tissue.BREAST: (40, 350, 480),
    Tissue.TABLE: (-250, 0, 0),
}
_BRIGHTENED = (Tissue.BONE, Tissue.MARROW, Tissue.BLOOD, Tissue.ARTERY, Tissue.KIDNEY, Tissue.THYROID, Tissue.PLAQUE)


def scanned(rng: np.random.Generator, scene: Scene, person: Person) -> Voxels:
    """Return the volume [X, Y, Z]: Hounsfield units, or an MRI's signal from 0."""
    return _ct(rng, scene, person) if person.modality == "CT" else _mri(rng, scene, person)


def _ct(rng: np.random.Generator, scene: Scene, person: Person) -> Voxels:
    institute = person.institute
    tissue = _with_table(scene, institute)
    units = np.array([_SIGNAL[one][0] for one in Tissue], np.float32)
    units[list(_BRIGHTENED)] *= institute.bone
    units[[Tissue.BONE, Tissue.MARROW]] *= 1 - 0.006 * max(person.age - 50, 0)
    units[Tissue.AIR] = -1000
    values = gaussian_filter(units[tissue], institute.blur) + institute.noise * _grain(rng, tissue.shape, institute)
    whole: Voxels = np.rint(np.clip(values, -1024, 3000)).astype(np.int16)
    return whole


def _mri(rng: np.random.Generator, scene: Scene, person: Person) -> Voxels:
    institute = person.institute
    column = 1 if institute.weighting == "t1" else 2
    signal = np.array([_SIGNAL[one][column] for one in Tissue], np.float32)
    signal *= np.exp(rng.normal(0, 0.06, len(signal))).astype(np.float32)
    values = gaussian_filter(signal[scene.tissue], institute.blur + 0.1)
    slope = institute.bias * np.linspace(-1, 1, values.shape[0], dtype=np.float32)[:, None, None]
    values *= 1 + (slope if rng.random() < 0.5 else -slope)
    noise = institute.noise * _grain(rng, values.shape, institute)
    whole: Voxels = np.rint(np.clip(np.hypot(values, noise), 0, 3 * WHITE)).astype(np.int16)  # Rician: never below 0
    return whole


def _grain(rng: np.random.Generator, shape: tuple[int, ...], institute: Institute) -> Array:
    """Draw noise of variance 1 with the institute's correlation length."""
    noise = rng.standard_normal(shape, dtype=np.float32)
    if institute.grain:
        noise = gaussian_filter(noise, institute.grain)
        noise /= noise.std() + 1e-6
    return noise


def _with_table(scene: Scene, institute: Institute) -> Labels:
    """Return the tissues with the institute's table below the patient."""
    if institute.table == "none":
        return scene.tissue
    grid = scene.grid
    sag = np.float32(0.0 if institute.table == "flat" else 0.0011)
    surface = np.float32(-152) + sag * grid.x**2
    table = (np.abs(grid.y - surface) < 7) & (np.abs(grid.x) < 210) & (scene.tissue == Tissue.AIR)
    found = scene.tissue.copy()
    found[table] = Tissue.TABLE
    return found
