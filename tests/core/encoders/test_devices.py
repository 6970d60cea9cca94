"""What an encoder does about a GPU, as far as a machine without one can show it."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.encoders.torch_encoder import PixelNormalisation, TorchEncoder
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError
from tests.core.encoders.small_onnx import classifier


def test_onnxruntime_that_falls_back_to_the_cpu_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build has the provider")
    file = str(classifier(tmp_path / "e.onnx", end=None))
    with pytest.raises(EncoderError, match="this onnxruntime has only"):
        load_encoder("onnx", file, size=8, device="cuda")
    # A build for GPUs lists the provider whether its libraries load or not.
    there = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    with pytest.raises(EncoderError, match="device is 'cuda', but onnxruntime fell back to CPUExecutionProvider"):
        load_encoder("onnx", file, size=8, device="cuda")


class Mean(TorchEncoder):
    """The mean of each channel; `inside` is called while it computes."""

    def __init__(self, device: str) -> None:
        options: Any = SimpleNamespace(kind="mean", precision="float32", random_weights=None)
        super().__init__(options, device, None)
        self.dim, self.preprocess = 3, Preprocess(8, "RGB", "stretch", "bilinear")
        self.normalisation = PixelNormalisation([0.1, 0.2, 0.3], [0.5, 0.25, 2.0])
        self.inside: Callable[[], None] = lambda: None

    def _embedding(self, x_NCHW: torch.Tensor) -> torch.Tensor:
        self.inside()
        return x_NCHW.mean((2, 3))

    def _tokens(self, x_NCHW: torch.Tensor) -> tuple[torch.Tensor, tuple[int, int]]:
        raise NotImplementedError


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    yield
    torch.backends.cudnn.allow_tf32 = before


def test_a_thread_that_is_done_gives_no_other_one_fewer_digits(exact: None) -> None:
    torch.backends.cudnn.allow_tf32 = True
    pixels, seen = np.zeros((1, 8, 8, 3), np.uint8), list[bool]()
    first_in, second_in, first_out = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        first_in.set()
        second_in.wait(10)

    def second() -> None:
        second_in.set()
        first_out.wait(10)
        seen.append(torch.backends.cudnn.allow_tf32)

    def embed(inside: Callable[[], None]) -> None:
        own = Mean("cuda")
        own.device, own.inside = "cpu", inside  # there is no GPU here; the switch is the process's
        own.embed(pixels)

    threads = [threading.Thread(target=embed, args=(do,)) for do in (first, second)]
    threads[0].start()
    first_in.wait(10)
    threads[1].start()
    threads[0].join(20)
    first_out.set()
    threads[1].join(20)
    assert seen == [False]


def test_mean_and_deviation_go_to_the_device_once() -> None:
    encoder = Mean("cpu")
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), dtype=np.uint8)
    wanted = ((pixels / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.25, 2.0]).mean((1, 2))
    np.testing.assert_allclose(encoder.embed(pixels), wanted, rtol=1e-5, atol=1e-6)
    kept = encoder._mean_std
    encoder.embed(pixels)
    assert encoder._mean_std is kept
