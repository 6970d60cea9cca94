"""The organs of the standard body: ellipsoids and tubes at plausible places, changed by sex, age and chance.

A later organ is painted over an earlier one, so that a liver's dome lifts the lung above it.
"""

from collections.abc import Sequence

import numpy as np

from medsae_ray.core.phantom.streams import stream
from medsae_ray.core.phantom.volumes.people import Person
from medsae_ray.core.phantom.volumes.shapes import Ellipsoid, Point, Tube

Shapes = list[Ellipsoid | Tube]

FISSURE = (0.0, 0.75, 0.66)
"""The normal of the oblique fissure, which falls from the back to the front; it points to the upper lobe."""
SPINE = (
    (200, -62),
    (235, -55),
    (285, -50),
    (340, -54),
    (420, -66),
    (520, -76),
    (610, -72),
    (690, -52),
    (760, -42),
    (830, -34),
)
"""The column's centre: (z, y)."""


def spine(offset: float, low: float, high: float) -> tuple[Point, ...]:
    """Return points along the column from `low` to `high`, `offset` in front of its centre."""
    z, y = np.transpose(SPINE)
    heights = np.linspace(low, high, max(2, int((high - low) / 40)))
    return tuple((0.0, float(np.interp(h, z, y) + offset), float(h)) for h in heights)


def organs(person: Person) -> dict[str, Shapes]:
    """Return each organ's shapes, in the order of painting, with the person's own deviations."""
    rng = stream(person.seed, person.number, "organs")
    found = {
        **_muscles(person),
        **_lungs(),
        **_bones(person),
        **_chest(person),
        **_bowel(rng),
        **_abdomen(person),
        **_vessels(person),
        **_pelvis(person),
        **_head(person),
    }
    lungs = _deviation(rng)  # of all lobes together, which have no gaps between them
    return {
        organ: [shape.changed(*(lungs if organ.startswith("lung") else own)) for shape in shapes]
        for organ, shapes in found.items()
        for own in [_deviation(rng)]
    }


def _deviation(rng: np.random.Generator) -> tuple[Point, float]:
    """Draw a shift in millimetres and a factor on the size."""
    x, y, z = (float(d) for d in rng.normal(0, (3.0, 2.5, 5.0)))
    return (x, y, z), float(np.exp(rng.normal(0, 0.07)))


def _pair(name: str, right: Sequence[Ellipsoid | Tube], lower_right: float = 0.0) -> dict[str, Shapes]:
    """Return both sides of an organ, of which the right one may lie lower."""
    left = [shape.mirrored() for shape in right]
    return {f"{name}_left": left, f"{name}_right": [shape.changed((0.0, 0.0, -lower_right), 1.0) for shape in right]}


def _muscles(person: Person) -> dict[str, Shapes]:
    strong = (1.0 if person.sex == "m" else 0.9) * (1.0 - 0.004 * max(person.age - 50, 0))
    back = Tube(((28, -85, 205), (30, -82, 300), (30, -92, 420), (26, -98, 560)), 20 * strong)
    psoas = Tube(((30, -40, 350), (48, -25, 260), (72, 10, 180), (88, 20, 75)), 20 * strong)
    gluteus = Ellipsoid((75, -78, 95), (58 * strong, 32 * strong, 80), 0.3)
    return {**_pair("gluteus_maximus", [gluteus]), **_pair("autochthon", [back]), **_pair("iliopsoas", [psoas])}


def _lungs() -> dict[str, Shapes]:
    right = Ellipsoid((76, -8, 560), (64, 84, 132), 0.10, 2.6)
    left = right.mirrored()
    a, b, c = FISSURE
    below, above = (-a, -b, -c, -c * 555), (a, b, c, c * 555)
    high, low = (0.0, 0.0, 1.0, 570.0), (0.0, 0.0, -1.0, -570.0)
    return {
        "lung_lower_lobe_left": [left._replace(planes=(below,))],
        "lung_upper_lobe_left": [left._replace(planes=(above,))],
        "lung_lower_lobe_right": [right._replace(planes=(below,))],
        "lung_middle_lobe_right": [right._replace(planes=(above, low))],
        "lung_upper_lobe_right": [right._replace(planes=(above, high))],
    }


def _bones(person: Person) -> dict[str, Shapes]:
    wide = 1.08 if person.sex == "f" else 1.0
    arm_end = (190, 25, 860) if person.study.arms_up else (205, 0, 440)
    hip: Shapes = [
        Ellipsoid((100 * wide, -25, 165), (14, 62, 55), 0.45),
        Ellipsoid((88 * wide, 0, 78), (24, 34, 34)),
        Tube(((70 * wide, 25, 60), (35, 55, 55), (12, 60, 58)), 11),
        Tube(((78 * wide, -10, 60), (62 * wide, -30, 10), (40, 20, 25)), 12),
    ]
    femur: Shapes = [
        Ellipsoid((98 * wide, 0, 72), (23, 23, 23)),
        Tube(((98 * wide, 0, 72), (135 * wide, -8, 42), (118, 0, -60), (100, 5, -250)), 16),
    ]
    humerus: Shapes = [Ellipsoid((160, -12, 662), (25, 25, 25)), Tube(((162, -12, 655), arm_end), 13)]
    scapula: Shapes = [Ellipsoid((112, -88, 600), (42, 9, 72), -0.25), Tube(((95, -98, 650), (150, -55, 672)), 10)]
    clavicle = Tube(((20, 72, 672), (60, 78, 682), (105, 45, 692), (150, 5, 690)), 8)
    return {
        "sacrum": [Ellipsoid((0, -70, 160), (48, 24, 55), 0.0, 2.4), Ellipsoid((0, -75, 100), (22, 16, 30))],
        **_pair("hip", hip),
        **_pair("femur", femur),
        **_pair("humerus", humerus),
        **_pair("scapula", scapula),
        **_pair("clavicula", [clavicle]),
        "sternum": [Ellipsoid((0, 94, 570), (19, 9, 82), 0.0, 3.0)],
    }


def _chest(person: Person) -> dict[str, Shapes]:
    heart = 1.0 + 0.003 * (person.age - 50)
    return {
        "esophagus": [Tube(((0, -22, 745), (-4, -38, 610), (-14, -32, 455)), 9)],
        "trachea": [
            Tube(((0, -2, 770), (0, -14, 625)), 9.5),
            Tube(((0, -14, 625), (45, -18, 592)), 7),
            Tube(((0, -14, 625), (-45, -18, 588)), 7),
        ],
        "heart": [Ellipsoid((-22, 30, 525), (62 * heart, 46 * heart, 56 * heart), 0.5)],
        "thyroid_gland": [Ellipsoid((side * 19, 16, 738), (11, 11, 22)) for side in (-1, 1)],
    }


def _bowel(rng: np.random.Generator) -> dict[str, Shapes]:
    points = [(float(rng.uniform(-72, 72)), float(rng.uniform(10, 72)), float(z)) for z in np.linspace(165, 325, 14)]
    ascending = [(102, 5, 185), (108, 0, 250), (104, 5, 325)]
    across = [(60, 60, 320), (0, 70, 315), (-60, 60, 345), (-104, 0, 385)]
    descending = [(-112, -15, 300), (-110, -10, 215), (-70, 15, 160), (-15, -15, 140), (0, -48, 110), (0, -50, 55)]
    return {"small_bowel": [Tube(tuple(points), 16)], "colon": [Tube((*ascending, *across, *descending), 19)]}


def _abdomen(person: Person) -> dict[str, Shapes]:
    kidney = 1.0 - 0.003 * max(person.age - 50, 0)
    shrunk = (29 * kidney, 27 * kidney, 56 * kidney)
    return {
        "spleen": [Ellipsoid((-108, -32, 428), (26, 44, 50), -0.2)],
        "stomach": [
            Ellipsoid((-62, 32, 425), (44, 42, 52), -0.35),
            Tube(((-50, 45, 385), (-5, 55, 365), (25, 45, 372)), 20),
        ],
        "liver": [Ellipsoid((72, 8, 425), (82, 84, 74), 0.25, 2.3), Ellipsoid((-5, 48, 432), (72, 38, 38), -0.3)],
        "gallbladder": [Ellipsoid((52, 56, 368), (16, 20, 28), 0.3)],
        "pancreas": [Tube(((34, 22, 352), (5, 32, 368), (-40, 10, 388), (-80, -12, 402)), 13)],
        "duodenum": [Tube(((32, 40, 372), (52, 15, 355), (50, 8, 305), (5, 2, 292), (-30, 15, 312)), 13)],
        **_pair("kidney", [Ellipsoid((62, -40, 362), shrunk, -0.15)], 14),
        **_pair("adrenal_gland", [Ellipsoid((38, -34, 425), (14, 9, 15), -0.4)]),
    }


def _vessels(person: Person) -> dict[str, Shapes]:
    aorta = 11.5 + 0.08 * max(person.age - 40, 0) + (1.0 if person.sex == "m" else 0.0)
    arch = ((-8, 18, 560), (14, 24, 615), (0, 10, 648), (-20, -25, 640), (-24, -48, 600))
    down = ((-22, -44, 500), (-8, -30, 420), (-6, -20, 340), (-4, -14, 262))
    iliac = Tube(((5, -14, 262), (35, -18, 210), (55, 10, 140), (70, 50, 70)), 8)
    return {
        "superior_vena_cava": [Tube(((28, 14, 560), (28, 18, 655)), 9.5)],
        "inferior_vena_cava": [Tube(((20, -22, 245), (22, -18, 340), (26, -12, 430), (16, 4, 505)), 11)],
        "portal_vein_and_splenic_vein": [Tube(((50, 10, 405), (15, 18, 380), (-35, 0, 392), (-85, -20, 410)), 7)],
        **_pair("iliac_artery", [iliac]),
        "aorta": [Tube((*arch, *down), aorta)],
    }


def _pelvis(person: Person) -> dict[str, Shapes]:
    found: dict[str, Shapes] = {"urinary_bladder": [Ellipsoid((0, 30, 92), (40, 34, 32), 0.0, 2.3)]}
    size = 18 + 0.15 * max(person.age - 40, 0)
    prostate: Shapes = [Ellipsoid((0, 12, 48), (size * 1.2, size, size))] if person.sex == "m" else []
    return {**found, "prostate": prostate}


def _head(person: Person) -> dict[str, Shapes]:
    return {
        "skull": [
            Ellipsoid((0, 8, 892), (74, 92, 88)),
            Tube(((50, 15, 830), (38, 62, 792), (0, 80, 788), (-38, 62, 792), (-50, 15, 830)), 9),
            Ellipsoid((0, 62, 838), (48, 30, 30)),
        ],
        "brain": [Ellipsoid((0, 6, 897), (66, 84, 78)), Tube(((0, -8, 840), (0, -22, 818)), 13)],
        "spinal_cord": [Tube(spine(-27, 345, 825), 6.5)],
    }
