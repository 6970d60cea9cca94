"""Perceptual fingerprints of images, and all pairs that differ in a few bits: near-duplicates across datasets.

The fingerprint is the DCT hash ("pHash", Zauner 2010): 64 low frequencies of a 32 x 32 grey image, one bit for each
above their median. The first row and column of the transform are left out: they hold the mean and the profiles along
one axis, in which all frontal radiographs are alike. Pairs are searched by this hash, and confirmed by `detail`, the
same with 256 frequencies: among 10^10 pairs of radiographs many share 60 of 64 bits by chance.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image
from scipy import fft

from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.images.reader import Reading, map_images
from medsae_ray.core.images.sources import ImageSource
from medsae_ray.errors import ImageError

Hashes = NDArray[np.uint64]
GRID, LOW, FINE = 32, 8, 16
DETAIL = 24
"""The bits of 256 in which near-duplicates may differ. Copies of two thirds of the size, brighter, as JPEG of quality
60, differ in at most 14; pairs of different patients that share 56 of the 64 bits in 68 or more (phantoms: 30)."""
INTACT = 3
"""The blocks of a fingerprint that two near ones must share: more make fewer candidates and more tables."""
CANDIDATES = 4_000_000
"""The pairs compared at once, which bounds the memory."""


class ImageHash(NamedTuple):
    """The two perceptual hashes of an image."""

    coarse: int
    """The hash of 64 bits, for the search."""
    detail: bytes
    """The hash of 256 bits, for the confirmation."""


def image_hash(image: Image.Image) -> ImageHash:
    """Compute the hashes of a decoded image."""
    grey = image.convert("L").resize((GRID, GRID), Image.Resampling.BOX)
    waves = fft.dctn(np.asarray(grey, dtype=np.float64), norm="ortho")
    coarse, detail = (_above_median(waves[1 : size + 1, 1 : size + 1]) for size in (LOW, FINE))
    return ImageHash(int.from_bytes(coarse, "big"), detail)


def _above_median(waves: NDArray[np.float64]) -> bytes:
    return np.packbits(waves > np.median(waves)).tobytes()


class ImageHashes(NamedTuple):
    """The hashes of N images."""

    coarse_N: Hashes
    detail_N: NDArray[np.uint8]
    """The 256-bit hashes as bytes [N, 32]."""

    @classmethod
    def of(cls, prints: Sequence[ImageHash]) -> "ImageHashes":
        """Stack the hashes of N images into arrays."""
        detail = np.frombuffer(b"".join(p.detail for p in prints), np.uint8).reshape(len(prints), -1)
        return cls(np.array([p.coarse for p in prints], np.uint64), detail)


def duplicates(a: ImageHashes, b: ImageHashes, distance: int) -> NDArray[np.int64]:
    """Return the `near_pairs` whose details differ in at most `DETAIL` bits."""
    pairs = near_pairs(a.coarse_N, b.coarse_N, distance)
    differ = np.bitwise_count(a.detail_N[pairs[:, 0]] ^ b.detail_N[pairs[:, 1]]).sum(axis=1, dtype=np.int64)
    confirmed: NDArray[np.int64] = pairs[differ <= DETAIL]
    return confirmed


def near_pairs(a_N: Hashes, b_M: Hashes, distance: int) -> NDArray[np.int64]:
    """Return all pairs [P, 3] (row of a, row of b, differing bits) with at most `distance` differing bits, in order.

    Exact. The 64 bits are cut into distance + INTACT blocks. Differing bits touch at most `distance` blocks, so a near
    pair agrees in some INTACT whole blocks: for every choice of these, rows with equal blocks are compared (Manku, Jain
    & Das Sarma 2007, "Detecting near-duplicates for web crawling").
    """
    blocks = np.array_split(np.arange(64, dtype=np.uint64), distance + INTACT)
    found = [np.empty((0, 3), np.int64)]
    for chosen in combinations(blocks, INTACT):
        mask = np.bitwise_or.reduce(np.left_shift(np.uint64(1), np.concatenate(chosen)))
        for rows_a, rows_b in _equal(a_N & mask, b_M & mask):
            differ = np.bitwise_count(a_N[rows_a] ^ b_M[rows_b]).astype(np.int64)
            near = differ <= distance
            found.append(np.stack([rows_a[near], rows_b[near], differ[near]], axis=1))
    return np.unique(np.concatenate(found), axis=0)


def _equal(key_N: Hashes, key_M: Hashes) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield all pairs of rows with equal keys, at most about `CANDIDATES` at a time."""
    order_M = np.argsort(key_M, kind="stable")
    sorted_M = key_M[order_M]
    first_N = np.searchsorted(sorted_M, key_N, side="left")
    count_N = np.searchsorted(sorted_M, key_N, side="right") - first_N
    rows = np.flatnonzero(count_N)
    batch = np.cumsum(count_N[rows]) // CANDIDATES
    for part in np.split(rows, np.flatnonzero(np.diff(batch)) + 1) if len(rows) else ():
        counts = count_N[part]
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        yield np.repeat(part, counts), order_M[np.repeat(first_N[part], counts) + within]


@dataclass(frozen=True)
class ImageHashWork:
    """The hashing of a shard's images; an unusable image has no hashes."""

    manifest: Artifact
    images: ImageSource
    reading: Reading
    readers: int = 4
    rows: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", {part.shard: part.rows for part in self.manifest.parts})

    def load(self) -> None:
        """Load nothing: no model is needed."""

    def prepare(self, shard: int) -> pa.Table:
        """Hash a shard's images: rows of the fingerprints schema, with null hashes and a reason where an image is
        unusable."""
        rows = self.manifest.part(shard, ["image_id", "uri"])
        found = map_images(self.reading, self.images, rows["uri"].to_pylist(), _printed, self.readers)
        coarse, detail = ([getattr(f, name, None) for f, _ in found] for name in ImageHash._fields)
        columns = [rows["image_id"].combine_chunks(), coarse, detail, [reason for _, reason in found]]
        declared = schema.fingerprints()
        arrays = [pa.array(c, f.type) for c, f in zip(columns, declared, strict=True)]
        return pa.Table.from_arrays(arrays, schema=declared)

    def compute(self, model: None, prepared: pa.Table) -> pa.Table:
        """Return `prepared` unchanged: the hashes are computed while reading."""
        return prepared


def _printed(found: Image.Image | ImageError) -> tuple[ImageHash | None, str | None]:
    return (None, found.reason) if isinstance(found, ImageError) else (image_hash(found), None)
