"""The body around the organs: its outline, fat, muscle, ribs and vertebrae, as a map of tissues."""

from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsae_ray.core.phantom.streams import stream
from medsae_ray.core.phantom.volumes.organs import organs, spine
from medsae_ray.core.phantom.volumes.people import Person
from medsae_ray.core.phantom.volumes.shapes import Ellipsoid, Frame, Grid, Shape, Tube

Labels = NDArray[np.uint8]


class Tissue(IntEnum):
    """What a voxel is made of."""

    AIR = 0
    LUNG = 1
    FAT = 2
    MUSCLE = 3
    BONE = 4
    MARROW = 5
    BLOOD = 6
    ARTERY = 7
    HEART = 8
    LIVER = 9
    SPLEEN = 10
    KIDNEY = 11
    PANCREAS = 12
    BOWEL = 13
    STOMACH = 14
    FLUID = 15
    BILE = 16
    GLAND = 17
    THYROID = 18
    BRAIN = 19
    CORD = 20
    LESION = 21
    HAEMATOMA = 22
    PLAQUE = 23
    BREAST = 24
    TABLE = 25


OF_ORGAN = {
    **dict.fromkeys(("autochthon_left", "autochthon_right", "iliopsoas_left", "iliopsoas_right"), Tissue.MUSCLE),
    **dict.fromkeys(("gluteus_maximus_left", "gluteus_maximus_right"), Tissue.MUSCLE),
    **dict.fromkeys(("lung_lower_lobe_left", "lung_upper_lobe_left", "lung_lower_lobe_right"), Tissue.LUNG),
    **dict.fromkeys(("lung_middle_lobe_right", "lung_upper_lobe_right"), Tissue.LUNG),
    **dict.fromkeys(("hip_left", "hip_right", "femur_left", "femur_right", "sacrum", "sternum"), Tissue.MARROW),
    **dict.fromkeys(("humerus_left", "humerus_right", "clavicula_left", "clavicula_right"), Tissue.BONE),
    **dict.fromkeys(("scapula_left", "scapula_right", "skull"), Tissue.BONE),
    **dict.fromkeys(("superior_vena_cava", "inferior_vena_cava", "portal_vein_and_splenic_vein"), Tissue.BLOOD),
    **dict.fromkeys(("aorta", "iliac_artery_left", "iliac_artery_right"), Tissue.ARTERY),
    **dict.fromkeys(("kidney_left", "kidney_right"), Tissue.KIDNEY),
    **dict.fromkeys(("adrenal_gland_left", "adrenal_gland_right", "prostate"), Tissue.GLAND),
    **dict.fromkeys(("small_bowel", "colon", "duodenum", "esophagus"), Tissue.BOWEL),
    "trachea": Tissue.AIR,
    "heart": Tissue.HEART,
    "liver": Tissue.LIVER,
    "spleen": Tissue.SPLEEN,
    "stomach": Tissue.STOMACH,
    "pancreas": Tissue.PANCREAS,
    "gallbladder": Tissue.BILE,
    "urinary_bladder": Tissue.FLUID,
    "thyroid_gland": Tissue.THYROID,
    "brain": Tissue.BRAIN,
    "spinal_cord": Tissue.CORD,
}
ORGANS = tuple(sorted(OF_ORGAN))
"""The organs with a mask."""

_PROFILE = (  # z, half-width and half-depth of the trunk without fat, and its middle's y
    (-20, 150, 88, -5),
    (60, 172, 96, -8),
    (130, 168, 98, -8),
    (220, 150, 92, -2),
    (300, 142, 94, -2),
    (420, 150, 100, 0),
    (540, 158, 102, 0),
    (610, 160, 96, -4),
    (660, 150, 80, -10),
    (700, 96, 62, -12),
    (730, 62, 56, -8),
    (820, 58, 58, -4),
)
_WALL = 13.0


class Scene(NamedTuple):
    """One person's body on a grid."""

    grid: Grid
    tissue: Labels
    """The Tissue of each voxel, uint8 [X, Y, Z]."""
    organ: Labels
    """0, or 1 + the organ's place in ORGANS, uint8 [X, Y, Z]."""

    def mask(self, name: str) -> NDArray[np.bool_]:
        """Return the voxels of an organ, bool [X, Y, Z]."""
        found: NDArray[np.bool_] = self.organ == 1 + ORGANS.index(name)
        return found

    def paint(self, shape: Shape, tissue: Tissue, within: NDArray[np.bool_] | None = None) -> None:
        """Make a shape of a tissue, where `within` [X, Y, Z] is True."""
        for window, inside in shape.inside(self.grid):
            found = inside if within is None else inside & within[window]
            self.tissue[window][found] = tissue

    def plant(self, name: str, shape: Shape, body: NDArray[np.bool_]) -> None:
        """Draw an organ, where the body is."""
        for window, inside in shape.inside(self.grid):
            found = inside & body[window]
            self.organ[window][found] = 1 + ORGANS.index(name)
            self.tissue[window][found] = OF_ORGAN[name]


def build(person: Person, frame: Frame) -> Scene:
    """Return the healthy body of a person in a frame."""
    grid = Grid(frame)
    habitus = float(stream(person.seed, person.number, "habitus").uniform(0, 1))
    fat = 8 + 26 * habitus**1.5 + (4 if person.sex == "f" else 0)
    scene = Scene(grid, np.zeros(frame.shape, np.uint8), np.zeros(frame.shape, np.uint8))
    _trunk(scene, fat)
    _limbs(scene, person, fat)
    if person.sex == "f":
        for side in (-1, 1):
            scene.paint(
                Ellipsoid((side * 75, 96 + fat, 545), (56, 42 + fat / 2, 55)), Tissue.FAT, scene.tissue == Tissue.AIR
            )
            scene.paint(Ellipsoid((side * 75, 112 + fat, 540), (30, 20, 28)), Tissue.BREAST)
    _column(scene)
    body = scene.tissue != Tissue.AIR
    for name, shapes in organs(person).items():
        for shape in shapes:
            scene.plant(name, shape, body)
    _details(scene, person)
    return scene


def _trunk(scene: Scene, fat: float) -> None:
    """Draw neck and trunk: fat, muscle, ribs and the cavities' fat."""
    z_profile = [row[0] for row in _PROFILE]
    z = scene.grid.z
    half_x, half_y, middle = (
        np.interp(z, z_profile, column).astype(np.float32) for column in list(zip(*_PROFILE, strict=True))[1:]
    )
    y = scene.grid.y - middle
    depth = (1 - np.sqrt((scene.grid.x / half_x) ** 2 + (y / half_y) ** 2)) * (half_x + half_y) / 2
    depth[(z < -20) | (z > 830)] = -1000
    bowl = np.clip(np.float32(150) - z, 0, 200) * np.float32(0.6)  # the pelvic floor rises from the middle to the sides
    cavity = (depth > _WALL + bowl) & (z < 700)
    scene.tissue[depth > -fat * np.clip((830 - z) / 100, 0.2, 1)] = Tissue.FAT
    scene.tissue[depth > 0] = Tissue.MUSCLE
    scene.tissue[cavity] = Tissue.FAT
    ladder = np.cos((z + np.float32(0.35) * y) * np.float32(2 * np.pi / 27))
    ribs = (depth > 4) & (depth < _WALL) & (ladder > 0.25) & (z > 415) & (z < 690)
    scene.tissue[ribs & (np.abs(scene.grid.x) > 22)] = Tissue.BONE


def _limbs(scene: Scene, person: Person, fat: float) -> None:
    air = scene.tissue == Tissue.AIR
    end = (190, 25, 880) if person.study.arms_up else (212, 0, 380)
    parts: list[Shape] = [Ellipsoid((0, 10, 888), (82, 100, 100)), Ellipsoid((0, 48, 812), (58, 48, 42))]
    for side in (-1, 1):
        for tissue, thick in ((Tissue.FAT, fat * 0.5), (Tissue.MUSCLE, 0.0)):
            scene.paint(Tube(((side * 88, -5, 40), (side * 92, 0, -300)), 78 + thick), tissue, air)
            scene.paint(Tube(((side * 140, -10, 655), (side * end[0], end[1], end[2])), 38 + thick), tissue, air)
    for part in parts:
        scene.paint(part, Tissue.MUSCLE, air)


def _column(scene: Scene) -> None:
    """Draw vertebrae with discs between them, and spinous processes."""
    scene.paint(Tube(spine(0, 200, 500), 21), Tissue.MARROW)
    scene.paint(Tube(spine(0, 480, 700), 16), Tissue.MARROW)
    scene.paint(Tube(spine(0, 690, 830), 11), Tissue.MARROW)
    scene.paint(Tube(spine(-34, 205, 700), 9), Tissue.BONE)
    disc = np.cos(scene.grid.z * np.float32(2 * np.pi / 33)) > 0.86
    scene.tissue[disc & (scene.tissue == Tissue.MARROW)] = Tissue.GLAND
    spaces = np.cos(scene.grid.z * np.float32(2 * np.pi / 33) + 1) > 0.4
    scene.tissue[spaces & (scene.tissue == Tissue.BONE) & (np.abs(scene.grid.x) < 12) & (scene.grid.y < -60)] = (
        Tissue.MUSCLE
    )


def _details(scene: Scene, person: Person) -> None:
    """Draw what organs contain: ventricles that widen with age, gas in stomach and colon, plaques of the old."""
    rng = stream(person.seed, person.number, "details")
    wide = 5 + 0.14 * max(person.age - 30, 0)
    brain = scene.mask("brain")
    for side in (-1, 1):
        scene.paint(Tube(((side * 8, -25, 900), (side * 12, 20, 912)), wide), Tissue.FLUID, brain)
    gas = scene.grid.y > 48 + float(rng.uniform(-8, 8))
    for name in ("stomach", "colon"):
        scene.tissue[scene.mask(name) & gas] = Tissue.AIR
    if person.age > 62:
        hard = rng.random(scene.tissue.shape, dtype=np.float32) < 0.010 * (person.age - 62)
        scene.tissue[scene.mask("aorta") & hard] = Tissue.PLAQUE
    if person.sex == "f":
        uterus = Ellipsoid((0, -12, 105), (28, 24, 30))
        scene.paint(uterus, Tissue.MUSCLE, scene.organ == 0)
