"""A DICOM archive in which every patient's image is stored in another way: from disk to the same embedding."""

from collections.abc import Callable
from io import BytesIO

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import compress

from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from tests.support.hostile_files import encapsulated
from tests.support.medical import BIG, DEFLATED, IMPLICIT, LITTLE, dicom

LOSSLESS_JPEG, FIRST_ORDER = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
BASELINE, JPEG_LS, JPEG_2000, RLE = (f"1.2.840.10008.1.2.{n}" for n in ("4.50", "4.80", "4.90", "5"))


def lossless(pixels: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(pixels, lossless=True, bitspersample=8 * pixels.itemsize)


ENCODE: dict[str, Callable[[np.ndarray], bytes]] = {
    LOSSLESS_JPEG: lossless,
    FIRST_ORDER: lossless,
    BASELINE: lambda pixels: imagecodecs.jpeg8_encode(pixels, level=100),
    JPEG_LS: imagecodecs.jpegls_encode,
    JPEG_2000: lambda pixels: imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k"),
}
EXACT = (LITTLE, IMPLICIT, BIG, DEFLATED, LOSSLESS_JPEG, FIRST_ORDER, JPEG_LS, JPEG_2000, RLE)


def stored(pixels: np.ndarray, syntax: str, number: int, turned: bool) -> bytes:
    """The pixels by `syntax`, in 16 bits but for baseline JPEG; as MONOCHROME1, of which 0 is white, if `turned`."""
    shown = {"PhotometricInterpretation": "MONOCHROME1"} if turned else {}
    pixels = 255 - pixels if turned else pixels
    pixels = pixels if syntax == BASELINE else pixels.astype(np.uint16) * 257
    plain = syntax not in (*ENCODE, RLE)
    whole = dicom(pixels, syntax if plain else LITTLE, patient=f"P{number}", number=number, **shown)
    if syntax == RLE:
        return run_lengths(whole)
    return whole if plain else encapsulated(whole, syntax, ENCODE[syntax](np.ascontiguousarray(pixels)))


def run_lengths(plain: bytes) -> bytes:
    dataset, out = pydicom.dcmread(BytesIO(plain)), BytesIO()
    compress(dataset, RLE, generate_instance_uid=False)
    dataset.save_as(out)
    return out.getvalue()


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], np.ndarray]:
    """(syntax, MONOCHROME1) -> embedding of the same picture."""
    folder, found = tmp_path_factory.mktemp("syntaxes"), {}
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8))
    pixels = np.asarray(picture.resize((64, 48), Image.Resampling.BICUBIC))
    keys = [(syntax, turned) for syntax in (*EXACT, BASELINE) for turned in (False, True)]
    for number, (syntax, turned) in enumerate(keys):
        (folder / f"{number:02d}.dcm").write_bytes(stored(pixels, syntax, number, turned))
    what = {"dataset": {"kind": "dicom", "name": "d"}, "encoder": {"kind": "medclip-vit"}}
    how = {"engine": "loop", "paths": {"images": str(folder), "weights": "builtin:phantom-encoder"}}
    recipe = parse_recipe({"name": "t", "what": what, "how": how})
    manifest, embeddings = (run_stage(recipe, str(folder / "root"), name) for name in ("manifest", "embeddings"))
    assert embeddings.record.not_ok == {} and embeddings.record.rows == len(keys) == 20
    for uri, x in zip(manifest.table()["uri"].to_pylist(), embeddings.table()["x"].to_pylist(), strict=True):
        found[keys[int(uri[:2])]] = np.array(x)
    return found


@pytest.mark.parametrize("turned", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("syntax", EXACT)
def test_the_embedding_does_not_depend_on_how_pixels_are_stored(
    embedded: dict[tuple[str, bool], np.ndarray], syntax: str, turned: bool
) -> None:
    np.testing.assert_allclose(embedded[syntax, turned], embedded[LITTLE, False], rtol=0, atol=1e-5)


@pytest.mark.parametrize("turned", [False, True], ids=["MONOCHROME2", "MONOCHROME1"])
def test_baseline_jpeg_embeds_as_nearly_the_same(embedded: dict[tuple[str, bool], np.ndarray], turned: bool) -> None:
    a, b = embedded[BASELINE, turned], embedded[LITTLE, False]
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.9999 and (a != b).any()
