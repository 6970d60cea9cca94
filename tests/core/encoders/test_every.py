"""What holds of the encoders of every architecture, on the CPU and, where there is one, on a GPU."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from medsae_ray.core.encoders import Encoder
from tests.core.encoders.every import MAKERS, Made, cosines, radiographs
from tests.support.shared import SHARED, needs_shared

COSINE = 0.9995
"""What the documentation of `precision` promises."""
ALONE = {"cpu": 1e-5, "cuda": 1e-3}
"""How far an embedding may be from the same one in a batch, over the largest number. On a GPU cuBLAS and cuDNN choose a
kernel by the size of the batch, and each sums in its own order."""
_NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU here")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, _NO_GPU])]
MODES = ("L", "LA", "P", "RGB", "RGBA", "I;16", "1", "CMYK")


@pytest.fixture(scope="module")
def films() -> list[Image.Image]:
    return radiographs(6)


@pytest.fixture(scope="module", params=MAKERS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def loaded(made: Made, device: str, **options: str) -> Encoder:
    """The encoder; skips if ONNX Runtime is a build for CPUs."""
    if made.kind == "onnx" and device == "cuda":
        onnxruntime = pytest.importorskip("onnxruntime")
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            pytest.skip("this build of ONNX Runtime has no CUDA provider; onnxruntime-gpu has")
    return made.load(device=device, **options)


@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_keeps_the_cosine_that_is_promised(made: Made, device: str, films: list[Image.Image]) -> None:
    if made.kind == "onnx":
        pytest.skip("an exported encoder has the precision that it was exported with")
    full = made.load(device=device).encode(films, batch_size=3)
    half = made.load(device=device, precision="bfloat16").encode(films, batch_size=3)
    assert half.dtype == np.float32 and (half != full).any() and cosines(full, half).min() >= COSINE


@needs_shared
@pytest.mark.parametrize("device", DEVICES)
def test_bfloat16_keeps_it_on_real_radiographs_too(device: str) -> None:
    paths = sorted((SHARED / "data/nih621").rglob("*.jpg"))[:24]
    shipped = MAKERS["phantom"](Path())
    full, half = (shipped.load(device=device, precision=p).encode(paths) for p in ("float32", "bfloat16"))
    mean = full.mean(0)
    assert cosines(full, half).min() >= COSINE and cosines(full - mean, half - mean).min() >= COSINE


@pytest.mark.parametrize("device", DEVICES)
def test_an_embedding_does_not_depend_on_its_batch(made: Made, device: str, films: list[Image.Image]) -> None:
    encoder = loaded(made, device)
    together, alone = encoder.encode(films[:4], batch_size=4), encoder.encode(films[:4], batch_size=1)
    np.testing.assert_allclose(alone, together, rtol=0, atol=ALONE[device] * np.abs(together).max())
    assert encoder.embed(np.empty((0, *encoder.preprocess.shape), np.uint8)).shape == (0, encoder.dim)


@pytest.mark.parametrize("device", DEVICES)
def test_a_grey_image_is_the_same_image_in_every_mode(made: Made, device: str, films: list[Image.Image]) -> None:
    encoder, pairs = loaded(made, device), [in_mode(films[0], mode) for mode in MODES]
    assert [one.mode for one, _ in pairs] == list(MODES)
    plain, other = encoder.encode(films[:2], batch_size=1)
    assert np.isfinite(plain).all() and (plain != other).any()
    for mode, (one, grey) in zip(MODES, pairs, strict=True):
        wanted = plain if grey is films[0] else encoder.encode([grey])[0]
        np.testing.assert_array_equal(encoder.encode([one])[0], wanted, err_msg=mode)


def test_onnx_is_skipped_with_a_reason_where_its_runtime_is_for_cpus(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build has the CUDA provider")
    with pytest.raises(pytest.skip.Exception, match="no CUDA provider"):
        loaded(MAKERS["onnx"](tmp_path), "cuda")


def in_mode(image: Image.Image, mode: str) -> tuple[Image.Image, Image.Image]:
    """The image in a mode, and what it shows as plain grey: itself, or black and white."""
    if mode == "I;16":
        return Image.fromarray(np.asarray(image).astype(np.uint16) * 257), image
    if mode in ("LA", "RGBA"):
        clear = image.convert(mode)
        clear.putalpha(7)  # transparency is dropped, whatever it is
        return clear, image
    if mode == "CMYK":
        return image.convert("RGB").convert(mode), image
    made = image.convert(mode)
    return made, made.convert("L") if mode == "1" else image
