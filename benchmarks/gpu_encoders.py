"""The sections of gpu_check.py on encoders, and the tests that are marked `gpu`.

Legend: N images, D embedding dimension.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gpu_rows import DEVICE, REHEARSED, NotChecked, Row, at_least, at_most, equal, tried

from medsae_ray.core.encoders import Encoder, load_encoder

ROOT = Path(__file__).resolve().parents[1]
PROMISED = 0.9995
"""The cosine that the option `precision` states for bfloat16."""
ALONE = 1e-3
"""How far an embedding may be from the same one in a batch, over the largest number: kernels depend on the batch."""


def cosines() -> list[Row]:
    """Embed phantom films with a small encoder of every kind on the GPU and on the CPU."""
    from tests.core.encoders.every import MAKERS

    _there()
    names = [name for name in MAKERS if name != "onnx"]
    return [row for name in names for row in tried(name, partial(_compared, name))]


def _compared(name: str) -> list[Row]:
    from tests.core.encoders.every import MAKERS, cosines, radiographs

    films = radiographs(2 if REHEARSED else 6)
    with tempfile.TemporaryDirectory() as folder:
        made = MAKERS[name](Path(folder))
        wanted = made.load().encode(films)
        encoder = made.load(device=DEVICE)
        full, half = encoder.encode(films), made.load(device=DEVICE, precision="bfloat16").encode(films)
        alone = encoder.encode(films, batch_size=1)
    apart = float(np.abs(alone - full).max() / np.abs(full).max())
    return [
        at_least(f"{name}, float32: least cosine with the CPU's", cosines(full, wanted).min(), 0.99999),
        at_least(f"{name}, bfloat16: the same", cosines(half, wanted).min(), PROMISED),
        at_most(f"{name}: an embedding alone and in a batch", apart, ALONE),
    ]


def onnx() -> list[Row]:
    """Load an ONNX encoder on the GPU, and see which provider computes it."""
    import onnxruntime

    from tests.core.encoders.every import MAKERS, radiographs

    _there()
    wanted = "CPUExecutionProvider" if REHEARSED else "CUDAExecutionProvider"
    if wanted not in onnxruntime.get_available_providers():
        raise NotChecked("this build of ONNX Runtime has no CUDA provider; onnxruntime-gpu has")
    films = radiographs(4)
    with tempfile.TemporaryDirectory() as folder:
        made = MAKERS["onnx"](Path(folder))
        encoder: Any = made.load(device=DEVICE)
        found, plain = encoder.encode(films), made.load().encode(films)
    provider = equal("first provider of the session", encoder._session.get_providers()[0], wanted)
    return [provider, at_most("embeddings from the CPU's", float(np.abs(found - plain).max()), 1e-3)]


def marked() -> list[Row]:
    """Run the tests that are marked `gpu`."""
    call = [sys.executable, "-m", "pytest", "tests", "-m", "gpu", "-p", "no:cacheprovider", "-rs"]
    call += ["--ignore", "tests/test_gpu_check.py"]  # it calls the sections
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr)
    return [equal("status of pytest -m gpu", done.returncode, 0)]


def images_per_s() -> list[Row]:
    """Embed random pixels with each kind of encoder at its usual size, random weights, in this process."""
    _there()
    found = []
    for name, load in _usual():
        for precision in ("float32", "bfloat16"):
            what = f"{name}, {precision}"
            found += tried(what, partial(_measured, what, load, precision))
    return found


def _measured(what: str, load: Callable[[str], Encoder], precision: str) -> list[Row]:
    encoder = load(precision)
    size = encoder.preprocess.size
    batch, rounds = (1, 1) if REHEARSED else (128 if size <= 512 else 16, 10)
    return [Row(what, f"{_rate(encoder, batch, rounds):,.0f} images/s of {size} pixels, in batches of {batch}")]


def _usual() -> Iterator[tuple[str, Callable[[str], Encoder]]]:
    """Yield the name of each encoder and how it is loaded in a precision."""
    from medsae_ray.core.encoders.biomedparse import FocalGeometry, build_focalnet
    from medsae_ray.core.encoders.medclip import SwinGeometry, build_vit, save_vit
    from medsae_ray.core.encoders.networks import ResNetTower, released_state
    from tests.support.released import save_focalnet

    def loads(kind: str, weights: Path, **options: Any) -> Callable[[str], Encoder]:
        return lambda precision: load_encoder(kind, str(weights), device=DEVICE, precision=precision, **options)

    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        save_vit(build_vit(SwinGeometry()), SwinGeometry(), folder / "vit.safetensors")
        yield "medclip-vit", loads("medclip-vit", folder / "vit.safetensors")
        torch.save(released_state(ResNetTower(512)), folder / "resnet.bin")
        yield "medclip-resnet", loads("medclip-resnet", folder / "resnet.bin")
        if REHEARSED:
            return
        focal = FocalGeometry()
        save_focalnet(build_focalnet(focal), focal, folder / "focal.safetensors")
        yield "biomedparse", loads("biomedparse", folder / "focal.safetensors")
        for name, model in _hub():
            _saved(model, folder / name)
            options = {"size": 224} if name.startswith("dinov3") else {}
            yield name, loads("dinov3" if name.startswith("dinov3") else "huggingface", folder / name, **options)


def _hub() -> Iterator[tuple[str, Any]]:
    """Yield models of Hugging Face at the sizes of their default configurations."""
    import transformers as hf

    yield "vit", hf.ViTModel(hf.ViTConfig())
    yield "dinov2", hf.Dinov2Model(hf.Dinov2Config())
    yield "clip", hf.CLIPVisionModelWithProjection(hf.CLIPVisionConfig())
    yield "siglip", hf.SiglipVisionModel(hf.SiglipVisionConfig())
    yield "swin", hf.SwinModel(hf.SwinConfig())
    yield "convnext", hf.ConvNextModel(hf.ConvNextConfig())
    yield "dinov3-vit", hf.DINOv3ViTModel(hf.DINOv3ViTConfig())
    yield "dinov3-convnext", hf.DINOv3ConvNextModel(hf.DINOv3ConvNextConfig())


def _saved(model: Any, folder: Path) -> None:
    import json

    from tests.core.encoders.small_models import PROCESSOR

    model.save_pretrained(folder)
    processor = PROCESSOR | {"size": {"height": 224, "width": 224}}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def _rate(encoder: Encoder, batch: int, rounds: int) -> float:
    """Return images per second from uint8 pixels to embeddings in memory; the fastest of three turns."""
    pixels = np.random.default_rng(0).integers(0, 256, (batch, *encoder.preprocess.shape), dtype=np.uint8)
    encoder.embed(pixels)
    best = float("inf")
    for _ in range(3):
        started = time.perf_counter()
        for _ in range(rounds):
            encoder.embed(pixels)
        best = min(best, time.perf_counter() - started)
    return batch * rounds / best


def _there() -> None:
    """Raise NotChecked if torch does not find the GPU."""
    from gpu_saes import there

    there()
