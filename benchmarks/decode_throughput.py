"""The throughput of decoding images to an encoder's grid, on one thread, with and without reduce_jpeg.

python benchmarks/decode_throughput.py --images 40
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from archive_images import encoded, films
from PIL import Image

from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.images.decode import Preprocess, read_image
from medsae_ray.core.images.dicom import Dicom
from medsae_ray.core.images.nifti import Volume
from tests.support.medical import dicom, nifti

GRID = Preprocess(size=224)


def timed(what: str, data: list[bytes], read: Callable[[bytes], Image.Image]) -> np.ndarray:
    """The grids [N, 224, 224]; prints images per second of CPU time, the best of three rounds."""
    best = np.inf
    for _ in range(3):
        start = time.thread_time()
        grids = np.stack([GRID(read(item)) for item in data])
        best = min(best, time.thread_time() - start)
    print(f"| {what} | {np.mean([len(item) for item in data]) / 1024:.0f} | {len(data) / best:.1f} |")
    return grids


def main() -> None:
    """Time each format and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--side", type=int, default=2048)
    arguments = parser.parse_args()
    made = films(arguments.images, arguments.side)
    jpeg = [encoded(film, "JPEG", quality=90) for film in made]
    print("| images | KiB each | images per core-second |\n|---|---|---|")
    whole = timed("JPEG", jpeg, read_image)
    reduced = timed("JPEG, reduce_jpeg", jpeg, lambda data: read_image(data, at_least=2 * GRID.size))
    timed("PNG", [encoded(film, "PNG", compress_level=6) for film in made], read_image)
    deep = [dicom(film.astype(np.uint16) * 16, WindowCenter=2048, WindowWidth=4096) for film in made]
    timed("DICOM, 16 bits, windowed", deep, lambda data: Dicom(data, max_pixels=10**8).image())
    volume(np.random.default_rng(0))
    difference(whole, reduced)


def volume(rng: np.random.Generator) -> None:
    """A CT of 256 x 256 x 256 voxels: reading it, and its 768 slices."""
    data = nifti(rng.integers(-1000, 1000, (256, 256, 256)).astype(np.int16))
    start = time.thread_time()
    opened = Volume(data)
    middle = time.thread_time()
    for plane in ("axial", "coronal", "sagittal"):
        for index in range(256):
            GRID(opened.image(plane, index, "-160:240", 10**8))
    end = time.thread_time()
    what = f"slices of a volume, {middle - start:.1f} s to open it"
    print(f"| {what} | {len(data) / 1024:.0f} | {768 / (end - middle):.1f} |")


def difference(whole: np.ndarray, reduced: np.ndarray) -> None:
    """Print by how much reduced decoding changes grids and embeddings."""
    apart = np.abs(whole.astype(int) - reduced.astype(int))
    encoder = load_encoder("medclip-vit", "builtin:phantom-encoder")
    x, y = (encoder.embed(_small(grids, encoder.preprocess.size)) for grids in (whole, reduced))
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    print(f"grids differ by {apart.mean():.2f} grey values on average, {apart.max()} at most;", end=" ")
    print(f"cosine of the embeddings at least {cosine.min():.5f}")


def _small(grids: np.ndarray, size: int) -> np.ndarray:
    return np.stack([np.asarray(Image.fromarray(grid).resize((size, size))) for grid in grids])


if __name__ == "__main__":
    main()
