"""Every encoder of torch on the pretended GPU, beside the CPU. Collected by tests/test_pretended_gpu.py."""

import numpy as np
import pytest

from tests.core.encoders.every import MAKERS, Made, cosines, radiographs
from tests.support.pretended_cuda import pretended_cuda

TORCH = [name for name in MAKERS if name != "onnx"]
FILMS = radiographs(1)


@pytest.fixture(scope="module", params=TORCH)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return MAKERS[request.param](tmp_path_factory.mktemp(request.param))


def test_an_encoder_gives_the_cpus_embeddings_on_the_gpu(made: Made) -> None:
    wanted = made.load().encode(FILMS)
    with pretended_cuda():
        encoder = made.load(device="cuda")
        found, half = encoder.encode(FILMS), made.load(device="cuda", precision="bfloat16").encode(FILMS)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert (half != found).any() and cosines(half, wanted).min() >= 0.9995
