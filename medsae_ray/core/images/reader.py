"""The way from a manifest's uri to an image: a file, a frame of DICOM, a slice of a volume, also in a zip archive.

| uri | is |
|---|---|
| `a/b.png` | an image file, or the first frame of a DICOM file |
| `a/b.dcm#frame=3` | the fourth frame |
| `s0001/ct.nii.gz#axial=37&window=-160:240` | slice 37 from below, Hounsfield units -160 to 240 as black to white |
| `a.zip!/b/c.dcm#frame=0` | the same within an archive |

A # begins such a part only if it ends the uri in exactly this form; any other # is a character of the name.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Annotated, Literal, NamedTuple, TypeVar

from PIL import Image

from medsae_ray.core.images.archives import opened_files, outer_file
from medsae_ray.core.images.decode import grey_values, read_image
from medsae_ray.core.images.dicom import Dicom, GreyValues
from medsae_ray.core.images.nifti import PLANES, Volume
from medsae_ray.core.images.sources import ImageSource
from medsae_ray.errors import ImageError
from medsae_ray.names import by_name
from medsae_ray.options import Limits

T = TypeVar("T")
_PART = re.compile(rf"#(frame|{'|'.join(PLANES)})=(\d{{1,9}})(?:&window=(p?[-\d.]+:[-\d.]+))?$")
DEFAULT_WINDOW = "p1:99"


class Slice(NamedTuple):
    """The part of a file that is an image."""

    kind: str
    """The kind: "frame", a plane, or "" for the file itself."""
    number: int
    window: str


def split_slice(uri: str) -> tuple[str, Slice]:
    """Return a file's address and the part of it that is the image."""
    found = _PART.search(uri)
    if not found:
        return uri, Slice("", 0, "")
    return uri[: found.start()], Slice(found[1], int(found[2]), found[3] or DEFAULT_WINDOW)


@dataclass(frozen=True, kw_only=True)
class ImageRules:
    """How image bytes become grey values."""

    max_pixels: Annotated[int, Limits(ge=1, le=2_000_000_000)] = 100_000_000
    """An image that claims more pixels is not decoded: it becomes a row with reason too_large."""
    high_bit: Literal["depth", "minmax"] = "depth"
    """10 to 16-bit images: scale by the smallest bit depth that holds the brightest pixel, or by the image's range."""
    window: Literal["header", "minmax"] = "header"
    """DICOM: black and white by the file's VOI LUT or window, or by the frame's range, as where a file has neither."""
    max_voxels: Annotated[int, Limits(ge=1, le=2**31)] = 2**28
    """A volume that claims more is not read: reason too_large. A voxel of 8 bytes counts twice."""
    orientation: Literal["exif", "stored"] = "exif"
    """Photographs of films lie as the camera was held: turn them as EXIF says, as viewers do; or leave pixels as they
    are stored, as MedCLIP's own preprocessing does. Either way such images are counted, and the report says so."""
    reduce_jpeg: bool = False
    """Decode JPEG at a half, quarter or eighth of its size where twice the encoder's input remains: twice as fast
    at 2048 pixels, for grey values that differ by 0.2 on average and 6 at most."""


@dataclass(frozen=True)
class Reading:
    """`ImageRules` for one size of the images."""

    max_pixels: int
    high_bit: str
    window: str
    max_voxels: int
    at_least: int | None
    """The shorter side of JPEG files, see `read_image`."""
    orientation: str

    @classmethod
    def of(cls, rules: ImageRules, side: int | None = None) -> "Reading":
        """Read a recipe's what.images. `side`, in pixels, of the encoder's input is needed to reduce JPEG files; None
        reads them whole, for any use of the image itself."""
        return by_name(cls, rules, at_least=2 * side if rules.reduce_jpeg and side else None)

    def image(self, store: ImageSource, uri: str) -> Image.Image:
        """Read an image of mode L or RGB. Raises ImageError if it is unusable, OSError if the store does not answer."""
        ((_, found),) = self.images(store, [uri])
        if isinstance(found, ImageError):
            raise found
        return found

    def decoded(self, data: bytes) -> Image.Image:
        """Decode the bytes of an image file, or the first frame of a DICOM file, to mode L or RGB. Raises ImageError if
        it is unusable."""
        try:
            return read_image(
                data,
                max_pixels=self.max_pixels,
                high_bit=self.high_bit,
                window=self.window,
                at_least=self.at_least,
                orientation=self.orientation,
            )
        except MemoryError as error:
            raise _as_image_error(error) from None

    def values(self, store: ImageSource, uri: str) -> GreyValues | None:
        """Read the grey values of an image of more than 8 bits; None for another, and for a slice whose pixels are not
        square. Raises ImageError if it is unusable, OSError if the store does not answer."""
        file, part = split_slice(uri)
        with opened_files(store, file) as read:
            data = read(file)
        if part.kind == "frame":
            return Dicom(data, max_pixels=self.max_pixels, window=self.window).values(part.number)
        if part.kind in PLANES:
            return Volume(data, self.max_voxels).grey(part.kind, part.number, part.window)
        return grey_values(data, self.max_pixels, self.window)

    def images(self, store: ImageSource, uris: Sequence[str]) -> Iterator[tuple[int, Image.Image | ImageError]]:
        """Yield (position, image or its error) of uris of one file or archive, which is read and decoded once.

        At most one image is held besides the file, if each is used before the next is requested.
        """
        numbered = [(number, *split_slice(uri)) for number, uri in enumerate(uris)]
        try:
            with opened_files(store, numbered[0][1]) as read:
                for file, rows in groupby(numbered, key=lambda row: row[1]):
                    yield from self._of_file(read, file, [(number, part) for number, _, part in rows])
        except ImageError as error:  # the archive itself
            yield from ((number, error) for number, _, _ in numbered)

    def _of_file(
        self, read: Callable[[str], bytes], file: str, wanted: list[tuple[int, Slice]]
    ) -> Iterator[tuple[int, Image.Image | ImageError]]:
        try:
            decode = self._decoder(read(file), wanted[0][1].kind)
        except (ImageError, MemoryError) as error:
            yield from ((number, _as_image_error(error)) for number, _ in wanted)
            return
        for number, part in wanted:
            found: Image.Image | ImageError
            try:
                found = decode(part)
            except (ImageError, MemoryError) as error:
                found = _as_image_error(error)
            yield number, found

    def _decoder(self, data: bytes, kind: str) -> Callable[[Slice], Image.Image]:
        """Return the decoder of one file's images; a volume or a DICOM file is parsed here, once."""
        if kind == "frame":
            dicom = Dicom(data, max_pixels=self.max_pixels, window=self.window)
            return lambda part: dicom.image(part.number)
        if kind in PLANES:
            volume = Volume(data, self.max_voxels)
            return lambda part: volume.image(part.kind, part.number, part.window, self.max_pixels)
        return lambda part: self.decoded(data)


def _as_image_error(error: ImageError | MemoryError) -> ImageError:
    return error if isinstance(error, ImageError) else ImageError("too_large", "not enough memory for it")


def map_images(
    reading: Reading,
    store: ImageSource,
    uris: Sequence[str],
    use: Callable[[Image.Image | ImageError], T],
    readers: int,
) -> list[T]:
    """Return `use` of each image, or of its error, in the order of the uris. Files are read once, `readers` at a time;
    each holds one image in full size."""
    found: dict[int, T] = {}

    def of_file(rows: list[int]) -> list[tuple[int, T]]:
        images = reading.images(store, [uris[row] for row in rows])
        return [(rows[position], use(image)) for position, image in images]

    with ThreadPoolExecutor(readers) as pool:
        for used in pool.map(of_file, by_file(uris).values()):
            found.update(used)
    return [found[row] for row in range(len(uris))]


def by_file(uris: Sequence[str]) -> dict[str, list[int]]:
    """Return the positions of the uris of each file or archive, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for position, uri in enumerate(uris):
        groups.setdefault(outer_file(split_slice(uri)[0]), []).append(position)
    return groups
