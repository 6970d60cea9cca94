"""A made-up scan: volume, masks and geometry, and its files in TotalSegmentator's layout."""

import gzip
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medsae_ray.core.phantom.streams import stream
from medsae_ray.core.phantom.volumes.body import ORGANS, build
from medsae_ray.core.phantom.volumes.disease import plant
from medsae_ray.core.phantom.volumes.people import Person
from medsae_ray.core.phantom.volumes.scanner import Voxels, scanned
from medsae_ray.core.phantom.volumes.shapes import Frame

SPACING = 6.0
"""The millimetres between voxels; TotalSegmentator's are 1.5 apart."""
_HALF = (225.0, 165.0)  # millimetres from the middle to the edge of the usual field of view, before the margin


class Scan(NamedTuple):
    """A scan in memory."""

    person: Person
    volume: Voxels
    """Hounsfield units or signal, int16 [X, Y, Z]."""
    organ: NDArray[np.uint8]
    """0, or 1 + the organ's place in ORGANS, uint8 [X, Y, Z]."""
    affine: NDArray[np.float64]
    """From voxels to millimetres to the Right, Anterior and Superior, [4, 4]."""

    def mask(self, name: str) -> NDArray[np.uint8]:
        """Return an organ's mask: 1 inside, uint8 [X, Y, Z]."""
        mask: NDArray[np.uint8] = (self.organ == 1 + ORGANS.index(name)).astype(np.uint8)
        return mask

    def files(self) -> Iterator[tuple[str, bytes]]:
        """Yield names and contents: s0001/ct.nii.gz, then a mask for each organ, empty where it is not in view."""
        yield f"{self.person.id}/{self.person.file}", nifti(self.volume, self.affine)
        for name in ORGANS:
            yield f"{self.person.id}/segmentations/{name}.nii.gz", nifti(self.mask(name), self.affine)


def draw(person: Person) -> Scan:
    """Return the person's scan; the same person, the same scan."""
    frame = frame_of(person)
    scene = build(person, frame)
    plant(stream(person.seed, person.number, "disease"), scene, person)
    volume = scanned(stream(person.seed, person.number, "scanner"), scene, person)
    affine = np.diag([SPACING, SPACING, SPACING, 1.0])
    affine[:3, 3] = frame.origin
    if person.modality == "CT":
        return Scan(person, volume, scene.organ, affine)
    return _from_the_right(Scan(person, volume, scene.organ, affine))


def _from_the_right(scan: Scan) -> Scan:
    """Return the scan stored as MRIs often are: the first two axes run to the patient's Left and Posterior."""
    affine = scan.affine.copy()
    for axis in (0, 1):
        affine[axis, 3] += SPACING * (scan.volume.shape[axis] - 1)
        affine[axis, axis] = -SPACING
    return scan._replace(volume=scan.volume[::-1, ::-1], organ=scan.organ[::-1, ::-1], affine=affine)


def frame_of(person: Person) -> Frame:
    """Return the person's size, position and field of view."""
    rng = stream(person.seed, person.number, "frame")
    female = person.sex == "f"
    tall = float(rng.normal(0.94 if female else 1.0, 0.035)) * (1 - 0.0006 * max(person.age - 60, 0))
    wide = float(rng.normal(0.93 if female else 1.0, 0.04))
    scale = (wide, wide * float(rng.normal(1.0, 0.03)), tall)
    low, high = (end * tall + float(rng.normal(0, 12)) for end in (person.study.low, person.study.high))
    half_x, half_y = (half * wide + person.institute.margin - 20 for half in _HALF)
    if "head" in person.study.name:
        half_x, half_y = (130.0 + person.institute.margin / 2, 140.0 + person.institute.margin / 2)
    shape = (int(2 * half_x / SPACING), int(2 * half_y / SPACING), max(8, int((high - low) / SPACING)))
    origin = (-half_x + float(rng.normal(0, 6)), -half_y + float(rng.normal(0, 5)), low)
    return Frame(shape, SPACING, origin, scale, float(rng.normal(0, 0.045)))


def nifti(voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> bytes:
    """Return the bytes of a .nii.gz file; equal voxels give equal bytes."""
    import nibabel

    image = nibabel.Nifti1Image(voxels, affine)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=3, mtime=0)
