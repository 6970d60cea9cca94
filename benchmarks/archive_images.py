"""Images like those of archives: enlarged phantom radiographs with detector noise, in the usual formats."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pyarrow as pa
import pyarrow.csv
from PIL import Image

from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.support.hostile_files import encapsulated
from tests.support.medical import dicom

JPEG_LOSSLESS, JPEG_2000_LOSSLESS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90"
WINDOW: dict[str, Any] = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}


def films(count: int, side: int) -> list[np.ndarray]:
    """Phantom radiographs, enlarged to `side` pixels, with a detector's noise."""
    rng = np.random.default_rng(0)
    drawn = [render(patient(7, number)[0]) for number in range(count)]
    large = [np.asarray(Image.fromarray(film).resize((side, side), Image.Resampling.BICUBIC)) for film in drawn]
    return [(film + rng.normal(0, 3, film.shape)).clip(0, 255).astype(np.uint8) for film in large]


def encoded(film: np.ndarray, kind: str, **options: Any) -> bytes:
    """Write a film in one of Pillow's formats."""
    stream = io.BytesIO()
    Image.fromarray(film).save(stream, kind, **options)
    return stream.getvalue()


def colour(film: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3]: a tinted film."""
    return np.stack([film, film // 8 * 7, film // 4 * 3 + 40], axis=-1)


def deep(film: np.ndarray) -> np.ndarray:
    """uint16 [H, W] of 12 bits, whose last four are noise."""
    noise: np.ndarray = np.random.default_rng(int(film[0, 0])).integers(0, 16, film.shape, np.uint16)
    return np.asarray(film.astype(np.uint16) * 16 + noise)


def jpeg_lossless(film: np.ndarray) -> bytes:
    """Write a film as DICOM with 12 bits in lossless JPEG."""
    frame = imagecodecs.jpeg8_encode(deep(film), lossless=True, bitspersample=12)
    return encapsulated(dicom(deep(film), **WINDOW), JPEG_LOSSLESS, bytes(frame))


def jpeg_2000(film: np.ndarray) -> bytes:
    """Write a film as DICOM with 12 bits in lossless JPEG 2000."""
    frame = imagecodecs.jpeg2k_encode(deep(film), level=0, reversible=True, codecformat="j2k", bitspersample=12)
    return encapsulated(dicom(deep(film), **WINDOW), JPEG_2000_LOSSLESS, bytes(frame))


FORMATS: dict[str, tuple[str, Callable[[np.ndarray], bytes]]] = {
    "JPEG, grey": ("jpg", lambda film: encoded(film, "JPEG", quality=90)),
    "JPEG, colour": ("jpg", lambda film: encoded(colour(film), "JPEG", quality=90)),
    "JPEG, progressive": ("jpg", lambda film: encoded(film, "JPEG", quality=90, progressive=True)),
    "PNG, 8 bits": ("png", lambda film: encoded(film, "PNG", compress_level=6)),
    "PNG, colour": ("png", lambda film: encoded(colour(film), "PNG", compress_level=6)),
    "PNG, 16 bits": ("png", lambda film: encoded(deep(film), "PNG", compress_level=6)),
    "TIFF": ("tif", lambda film: encoded(film, "TIFF")),
    "TIFF, LZW": ("tif", lambda film: encoded(film, "TIFF", compression="tiff_lzw")),
    "DICOM, 12 bits": ("dcm", lambda film: dicom(deep(film), **WINDOW)),
    "DICOM, colour": ("dcm", lambda film: dicom(colour(film))),
    "DICOM, JPEG lossless": ("dcm", jpeg_lossless),
    "DICOM, JPEG 2000 lossless": ("dcm", jpeg_2000),
}
"""Format -> end of a file's name, and what writes one."""


def archive(folder: Path, images: int, each: int, side: int) -> Path:
    """`images` files below `folder`, evenly of all formats and mixed, and the table that names them.

    Each format has `each` files of its own; the others are hard links to them, under names of their own.
    """
    made = films(each, side)
    originals = []
    for number, (suffix, encode) in enumerate(FORMATS.values()):
        for at, film in enumerate(made):
            originals.append(folder / f"o{number:02d}-{at:03d}.{suffix}")
            originals[-1].write_bytes(encode(film))
    rng = np.random.default_rng(0)
    names: list[str] = []
    while len(names) < images:
        for at in rng.permutation(len(originals))[: images - len(names)]:
            names.append(f"i{len(names):05d}{originals[at].suffix}")
            os.link(originals[at], folder / names[-1])
    table = folder / "table.csv"
    pyarrow.csv.write_csv(pa.table({"path": names, "patient": names, "label": [n % 2 for n in range(images)]}), table)
    return table
