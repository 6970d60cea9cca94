import io
from itertools import product
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from medsae_ray.core.analysis.near_duplicates import ImageHashes, ImageHashWork, duplicates, image_hash, near_pairs
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.rows import Rows, to_manifest
from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render
from tests.core.made import SHARES, artifact
from tests.support.shared import SHARED, needs_shared
from tests.support.usual import reading


def brute(a_N: np.ndarray, b_M: np.ndarray, distance: int) -> list[list[int]]:
    pairs = product(range(len(a_N)), range(len(b_M)))
    found = [[i, j, int(a_N[i] ^ b_M[j]).bit_count()] for i, j in pairs]
    return [pair for pair in found if pair[2] <= distance]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 9999), distance=st.integers(0, 8))
def test_all_near_pairs_are_found_and_no_others(seed: int, distance: int) -> None:
    rng = np.random.default_rng(seed)
    a_N = rng.integers(0, 2**64, 30, dtype=np.uint64)
    b_M = rng.choice(a_N, 40)
    for bit in rng.integers(0, 64, (9, 40)).astype(np.uint64):
        b_M ^= np.left_shift(np.uint64(1), bit) * (rng.random(40) < 0.6).astype(np.uint64)
    assert near_pairs(a_N, b_M, distance).tolist() == brute(a_N, b_M, distance)


def test_many_equal_fingerprints_and_none_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medsae_ray.core.analysis.near_duplicates.CANDIDATES", 50)
    same = np.zeros(30, np.uint64)
    assert len(near_pairs(same, same, 2)) == 900
    assert near_pairs(same[:0], same, 2).shape == (0, 3)


def copy_of(image: Image.Image) -> Image.Image:
    """Two thirds of the size, brighter, and through JPEG."""
    stream = io.BytesIO()
    smaller = image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BICUBIC)
    smaller.point(lambda grey: min(255, int(grey * 1.08 + 4))).save(stream, "JPEG", quality=60)
    return Image.open(io.BytesIO(stream.getvalue()))


def prints(images: list[Image.Image]) -> ImageHashes:
    return ImageHashes.of([image_hash(image) for image in images])


def test_a_copy_is_found_and_other_patients_are_not() -> None:
    films = [Image.fromarray(render(patient(7, number)[0])) for number in range(40)]
    a, b = prints(films), prints([copy_of(film) for film in films])
    assert len(near_pairs(a.coarse_N, b.coarse_N, 8)) > 40  # phantoms look alike: 64 bits do not tell them apart
    pairs = duplicates(a, b, 8)
    assert pairs[:, 0].tolist() == pairs[:, 1].tolist() == list(range(40))


@needs_shared
def test_no_two_of_150_real_patients_are_near() -> None:
    files = sorted((SHARED / "data/nih621/images").iterdir())[:150]
    found = prints([Image.open(file) for file in files])
    assert len(near_pairs(found.coarse_N, found.coarse_N, 6)) == len(duplicates(found, found, 8)) == 150


def test_an_image_that_cannot_be_read_is_a_row_with_a_reason(tmp_path: Path) -> None:
    film = Image.fromarray(render(patient(7, 0)[0]))
    film.save(tmp_path / "i0.png")
    y = {"a": pa.array([1, 0], pa.int8())}
    rows = Rows("d", ["i0.png", "i1.png"], ["p0", "p1"], ["i0.png", "i1.png"], y, {})
    manifest = artifact(tmp_path, "manifest", [to_manifest(rows, SHARES, "s", 2)])
    work = ImageHashWork(manifest, Store(str(tmp_path)), reading())
    good, bad = work.compute(None, work.prepare(0)).to_pylist()
    assert (good["coarse"], good["detail"]) == image_hash(film) and good["reason"] is None
    assert bad == {"image_id": "i1.png", "coarse": None, "detail": None, "reason": "missing"}
