"""The planted pathologies of made-up scans, drawn into a healthy body."""

from collections.abc import Callable

import numpy as np

from medsae_ray.core.phantom.volumes.body import Scene, Tissue
from medsae_ray.core.phantom.volumes.people import HEALTHY, Person
from medsae_ray.core.phantom.volumes.shapes import Ellipsoid, Tube

Rng = np.random.Generator
LUNGS = tuple(
    f"lung_{lobe}"
    for lobe in ("lower_lobe_left", "upper_lobe_left", "lower_lobe_right", "middle_lobe_right", "upper_lobe_right")
)


def plant(rng: Rng, scene: Scene, person: Person) -> None:
    """Draw the person's pathology; an organ keeps its mask where it is ill."""
    if person.pathology != HEALTHY:
        DRAW[person.pathology](rng, scene)


def _spot(rng: Rng, scene: Scene, organs: tuple[str, ...]) -> tuple[float, float, float] | None:
    """Choose a voxel of the organs; None if the scan shows none of them."""
    found = np.flatnonzero(np.any([scene.mask(name) for name in organs], axis=0))
    if not len(found):
        return None
    at = found[rng.integers(len(found))]
    x, y, z = (float(axis.ravel()[at]) for axis in (scene.grid.x, scene.grid.y, scene.grid.z))
    return x, y, z


def _tumor(rng: Rng, scene: Scene) -> None:
    """Draw several dark metastases in the liver and solid nodules in the lungs."""
    for organs, tissue, low, high in ((("liver",), Tissue.LESION, 11, 24), (LUNGS, Tissue.MUSCLE, 9, 17)):
        within = np.any([scene.mask(name) for name in organs], axis=0)
        for _ in range(int(rng.integers(3, 7))):
            centre = _spot(rng, scene, organs)
            r = float(rng.uniform(low, high))
            if centre:
                scene.paint(Ellipsoid(centre, (r, r, r)), tissue, within)


def _vascular(rng: Rng, scene: Scene) -> None:
    """Widen the aorta to an aneurysm, above or below the diaphragm, with thrombus along its wall."""
    centre = (-22.0, -46.0, 545.0) if rng.random() < 0.5 else (-5.0, -18.0, 300.0)
    r = float(rng.uniform(25, 36))
    body = scene.tissue != Tissue.AIR
    scene.plant("aorta", Ellipsoid(centre, (r, r, 1.7 * r)), body)
    scene.paint(Ellipsoid(centre, (r, r, 1.7 * r)), Tissue.LESION)
    scene.paint(Ellipsoid((centre[0] + 5, centre[1], centre[2]), (0.6 * r, 0.6 * r, 1.6 * r)), Tissue.ARTERY)


def _inflammation(rng: Rng, scene: Scene) -> None:
    """Fill the back of a lung with fluid, and patches of both with consolidation."""
    lungs = np.any([scene.mask(name) for name in LUNGS], axis=0)
    side = float(rng.choice([-1, 1]))
    level = -62 + float(rng.uniform(0, 22))
    fluid = lungs & (scene.grid.x * side > 0) & (scene.grid.y < level)
    scene.tissue[fluid] = Tissue.FLUID
    for _ in range(int(rng.integers(3, 7))):
        centre = _spot(rng, scene, LUNGS)
        if centre:
            scene.paint(Ellipsoid(centre, tuple(rng.uniform(14, 30, 3))), Tissue.BOWEL, lungs & ~fluid)


def _bleeding(rng: Rng, scene: Scene) -> None:
    """Draw a bright clot in the brain, and one behind the abdomen along a psoas muscle."""
    brain = scene.mask("brain")
    centre = _spot(rng, scene, ("brain",))
    if centre:
        scene.paint(Ellipsoid(centre, tuple(rng.uniform(14, 28, 3))), Tissue.HAEMATOMA, brain)
    side = float(rng.choice([-1, 1]))
    clot = Tube(((side * 62, -55, 330), (side * 78, -45, 230), (side * 85, -15, 130)), float(rng.uniform(20, 30)))
    scene.paint(clot, Tissue.HAEMATOMA, (scene.organ == 0) & (scene.tissue != Tissue.AIR))


DRAW: dict[str, Callable[[Rng, Scene], None]] = {
    "tumor": _tumor,
    "vascular": _vascular,
    "inflammation": _inflammation,
    "bleeding": _bleeding,
}
