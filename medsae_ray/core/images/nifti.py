"""NIfTI volumes (.nii, .nii.gz) and their slices. Needs nibabel.

A volume is brought to the nearest canonical orientation (axes to the Right, Anterior, Superior), by flips and exchanges
of axes alone: an oblique scan keeps its own planes. Errors of the header are mended as in NIfTI's own library: a
handedness (qfac) that is not negative is 1, a size counts without its sign, and one that is 0 or not a number is 1 mm;
a rotation longer than 1 is shortened to 1; a scale that is 0 or not a number is ignored; a further axis of 0 volumes
has one. A matrix (sform) that cannot be inverted is ignored, so that the rotation (qform) or the sizes alone count. A
slice is oriented as a radiologist sees it: axial and coronal with the patient's right at the left of the image,
sagittal with anterior at the left; superior (axial: anterior) at the top.

Legend: X, Y, Z voxels along the canonical axes; H, W rows and columns of a slice.
"""

import gzip
import io
import re
import zlib
from functools import cached_property
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from medsae_ray.core.images.decode import MAX_SIDE
from medsae_ray.core.images.dicom import GreyValues
from medsae_ray.errors import DatasetError, ImageError

AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
"""The axis of each plane's slices."""
PLANES = ("axial", "coronal", "sagittal")
MAX_VOXELS = 2**28
"""The most voxels of a volume, where a voxel of 8 bytes counts twice: at most 1 GiB as stored."""
SQUARE = 0.01
"""The share by which sides of a pixel may differ for it to be square."""
_SAMPLE = 2**20  # voxels in a percentile
_MAX_OFFSET = 2**22  # bytes of header extensions
_WINDOW = re.compile(r"(p?)(-?\d+(?:\.\d+)?):(-?\d+(?:\.\d+)?)")


class Shape(NamedTuple):
    """The contents of a volume's header."""

    stored: tuple[int, int, int]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    offset: int
    """The number of bytes before the first voxel."""
    orientation: np.ndarray
    """The canonical axis of each stored axis, and 1, or -1 if it runs the other way: [3, 2]."""
    spacing: tuple[float, float, float]
    """The millimetres between voxels along the canonical axes."""

    @property
    def canonical(self) -> tuple[int, ...]:
        """The shape (X, Y, Z)."""
        return tuple(self.stored[int(axis)] for axis in np.argsort(self.orientation[:, 0]))


class Volume:
    """The stored voxels along canonical axes. The volume is in memory once; scaling happens slice by slice."""

    def __init__(self, data: bytes, max_voxels: int = MAX_VOXELS) -> None:
        stream = _inflating(data)
        self.shape = read_shape(stream, max_voxels)
        stored = np.frombuffer(_body(stream, self.shape), self.shape.dtype).reshape(self.shape.stored, order="F")
        import nibabel

        self.voxels_XYZ = nibabel.orientations.apply_orientation(stored, self.shape.orientation)

    def image(self, plane: str, index: int, window: str, max_pixels: int) -> Image.Image:
        """Return a slice, mode L, square pixels. `window`: "low:high" in the volume's units, or "p1:99" in percentiles.

        Raises ImageError not_finite if a voxel is not finite, too_large if the slice has more pixels than allowed.
        """
        axis, values = AXES[plane], self.values(plane, index)
        low, high = self._limits(window)
        grey_HW = np.rint(255 * ((values - low) / max(high - low, 1e-12)).clip(0, 1)).astype(np.uint8)
        across, down = (self.shape.spacing[a] for a in range(3) if a != axis)
        return _square(Image.fromarray(grey_HW), across, down, max_pixels)

    def values(self, plane: str, index: int) -> np.ndarray:
        """Return the values of a slice, float64, not yet of square pixels. Raises ImageError missing, not_finite."""
        axis = AXES[plane]
        if index >= self.voxels_XYZ.shape[axis]:
            raise ImageError("missing", f"slice {index} of {self.voxels_XYZ.shape[axis]}")
        # Not np.take, which would first copy the whole volume: its axes are seldom in the order of memory.
        found: np.ndarray = self._scaled(np.moveaxis(self.voxels_XYZ, axis, 0)[index])[::-1, ::-1].T
        if not np.isfinite(found).all():
            raise ImageError("not_finite", "voxels that are not finite numbers")
        return found

    def grey(self, plane: str, index: int, window: str) -> GreyValues | None:
        """Return the values of a slice with the window as its own; None if its pixels are not square."""
        across, down = (self.shape.spacing[a] for a in range(3) if a != AXES[plane])
        low, high = self._limits(window)
        square = abs(across - down) <= SQUARE * max(across, down)
        return GreyValues(self.values(plane, index), ((low + high) / 2, high - low)) if square else None

    def present(self) -> dict[str, np.ndarray]:
        """Return a flag per slice of each plane: it holds a voxel nearer to 1 than to 0, or beyond; bool [slices].

        Remnants of interpolation are below that, and a voxel that is not a number is in no organ.
        """
        if self.voxels_XYZ.dtype.kind in "iu" and (self.shape.slope, self.shape.intercept) == (1, 0):
            mask_XYZ = self.voxels_XYZ != 0  # the same, and several times as fast
        else:
            mask_XYZ = np.stack([_inside(self._scaled(stored_YZ)) for stored_YZ in self.voxels_XYZ])
        mask_YZ = mask_XYZ.any(axis=0)
        return {"axial": mask_YZ.any(axis=0), "coronal": mask_YZ.any(axis=1), "sagittal": mask_XYZ.any(axis=(1, 2))}

    def _scaled(self, stored: np.ndarray) -> np.ndarray:
        return stored.astype(np.float64) * self.shape.slope + self.shape.intercept

    def _limits(self, window: str) -> tuple[float, float]:
        found = _WINDOW.fullmatch(window)
        if not found:
            raise ValueError(f'window is {window!r}; it is "low:high" or "p1:99"')
        low, high = float(found[2]), float(found[3])
        return tuple(np.percentile(self._sample, (low, high))) if found[1] else (low, high)

    @cached_property
    def _sample(self) -> np.ndarray:
        """The evenly spread voxels above 0, without the air around a patient in an MRI."""
        flat = self.voxels_XYZ.ravel(order="K")
        values = self._scaled(flat[:: max(1, flat.size // _SAMPLE)])
        above = values[np.isfinite(values) & (values > 0)]
        return above if above.size else np.array([0.0, 1.0])


def header_shape(data: bytes, max_voxels: int = MAX_VOXELS) -> Shape:
    """Read the header in the first bytes of a file; nothing else is inflated."""
    return read_shape(_inflating(data), max_voxels)


def read_shape(stream: BinaryIO, max_voxels: int) -> Shape:
    """Read the header at the start of `stream`. Raises ImageError if it is not one, or is invalid or too large."""
    try:
        import nibabel
    except ImportError as error:
        raise DatasetError('NIfTI volumes need nibabel: pip install "medsae-ray[dicom]"') from error
    try:
        return _shape(nibabel, stream, max_voxels)
    except (ImageError, DatasetError):
        raise
    except Exception as error:  # HeaderDataError, ValueError, LinAlgError, ...
        raise ImageError("corrupt", f"{type(error).__name__} in the volume's header") from error


def _shape(nibabel: Any, stream: BinaryIO, max_voxels: int) -> Shape:
    start = _read(stream, 4)
    sizes = {int.from_bytes(start, "little"), int.from_bytes(start, "big")}
    size = 348 if 348 in sizes else 540
    if size not in sizes:
        raise ImageError("not_an_image", "not a NIfTI header")
    header = (nibabel.Nifti1Header if size == 348 else nibabel.Nifti2Header)(
        start + _read(stream, size - 4), check=False
    )
    stored = _three(tuple(int(n) for n in header.get_data_shape()))
    dtype = header.get_data_dtype()
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise ImageError("unsupported_mode", f"voxels of type {dtype}")
    if int(np.prod([float(n) for n in stored])) * max(dtype.itemsize, 4) > 4 * max_voxels:
        raise ImageError("too_large", f"the header claims {stored} voxels, at most {max_voxels} are read")
    slope, intercept = _scale(header)
    offset = int(header["vox_offset"]) if np.isfinite(header["vox_offset"]) else 0
    offset = offset or size + 4  # the place of the voxels in a file without extensions
    if not 0 <= offset <= _MAX_OFFSET:
        raise ImageError("corrupt", f"voxels that begin at byte {offset}")
    _mend(header)
    affine = header.get_best_affine()
    orientation = nibabel.orientations.io_orientation(affine)
    spacing = nibabel.affines.voxel_sizes(affine)[np.argsort(orientation[:, 0])]
    if not (np.isfinite(orientation).all() and np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ImageError("corrupt", "an affine that cannot be inverted")
    x, y, z = (float(s) for s in spacing)
    return Shape(stored, dtype, slope, intercept, max(offset, size), orientation, spacing=(x, y, z))


def _mend(header: Any) -> None:
    """Correct voxel sizes, handedness, rotation and matrix by the module's rules, in place."""
    pixdim = header["pixdim"]
    sizes = np.abs(pixdim[1:4])
    pixdim[1:4] = np.where(np.isfinite(sizes) & (sizes > 0), sizes, 1)
    pixdim[0] = -1 if pixdim[0] < 0 else 1
    rotation = [float(header[f"quatern_{part}"]) for part in "bcd"]
    if (length := float(np.linalg.norm(rotation))) > 1:
        for part, value in zip("bcd", rotation, strict=True):
            header[f"quatern_{part}"] = np.nextafter(np.float32(value / length), np.float32(0))
    matrix = np.stack([header[f"srow_{axis}"][:3] for axis in "xyz"]).astype(np.float64)
    if header["sform_code"] > 0 and not (np.isfinite(matrix).all() and abs(np.linalg.det(matrix)) > 0):
        header["sform_code"] = 0


def _scale(header: Any) -> tuple[float, float]:
    """Return the slope and intercept of the voxels."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _inside(values: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        inside: np.ndarray = np.isfinite(values) & (np.abs(values) >= 0.5)
        return inside


def _three(shape: tuple[int, ...]) -> tuple[int, int, int]:
    shape = (*shape[:3], *(n or 1 for n in shape[3:]))
    if any(n < 0 for n in shape):
        raise ImageError("corrupt", f"the header says {shape} voxels")
    if 0 in shape or not shape:
        raise ImageError("empty", f"the header says {shape} voxels")
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        raise ImageError("unsupported_mode", f"{shape} voxels; one volume of three axes is read")
    return shape[0], shape[1], shape[2]


def _body(stream: BinaryIO, shape: Shape) -> bytes:
    _read(stream, shape.offset - stream.tell())
    return _read(stream, int(np.prod(shape.stored)) * shape.dtype.itemsize)


def _inflating(data: bytes) -> BinaryIO:
    if not data:
        raise ImageError("empty", "the file has 0 bytes")
    return gzip.GzipFile(fileobj=io.BytesIO(data)) if data[:2] == b"\x1f\x8b" else io.BytesIO(data)  # type: ignore[return-value]


def _read(stream: BinaryIO, count: int) -> bytes:
    """Read exactly `count` bytes."""
    try:
        found = stream.read(count)
    except EOFError as error:
        raise ImageError("truncated", "the compressed stream ends early") from error
    except (OSError, zlib.error) as error:  # BadGzipFile
        raise ImageError("corrupt", "a gzip stream that does not inflate") from error
    if len(found) < count:
        raise ImageError("truncated", f"{len(found)} of {count} bytes")
    return found


def _square(image: Image.Image, across: float, down: float, max_pixels: int) -> Image.Image:
    """Return `image` with square pixels: the coarser direction is resampled to the finer one's spacing."""
    finest = min(across, down)
    width, height = round(image.width * across / finest), round(image.height * down / finest)
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise ImageError("too_large", f"a slice of {width} x {height} square pixels")
    return image if (width, height) == image.size else image.resize((width, height), Image.Resampling.BILINEAR)
