"""One small encoder of every architecture, ready to be loaded, and the shipped one with its real weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image

from medsae_ray.core.encoders import Encoder, load_encoder
from medsae_ray.core.encoders.biomedparse import FocalGeometry, build_focalnet
from medsae_ray.core.encoders.medclip import SwinGeometry, build_vit, save_vit
from medsae_ray.core.encoders.networks import ResNetTower, released_state
from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render
from tests.core.encoders.small_models import NAMES, saved, stirred
from tests.support.released import save_focalnet


class Made(NamedTuple):
    """What `load_encoder` needs for one encoder."""

    kind: str
    weights: str
    options: dict[str, Any]

    def load(self, **options: Any) -> Encoder:
        return load_encoder(self.kind, self.weights, **self.options, **options)


def _swin(folder: Path) -> Made:
    torch.manual_seed(0)
    save_vit(stirred(build_vit(SwinGeometry()), 0.05), SwinGeometry(), folder / "vit.safetensors")
    return Made("medclip-vit", str(folder / "vit.safetensors"), {})


def _resnet(folder: Path) -> Made:
    torch.manual_seed(0)
    tower = ResNetTower(512)
    torch.save(released_state(tower), folder / "resnet.bin")
    return Made("medclip-resnet", str(folder / "resnet.bin"), {})


def _focal(folder: Path) -> Made:
    torch.manual_seed(0)
    geometry = FocalGeometry(embed_dim=16, depths=(1, 1, 2, 1))
    save_focalnet(stirred(build_focalnet(geometry)), geometry, folder / "focal.safetensors")
    return Made("biomedparse", str(folder / "focal.safetensors"), {"size": 96})


def _hub(name: str) -> Callable[[Path], Made]:
    kind, options = ("dinov3", {"size": 64}) if name.startswith("dinov3") else ("huggingface", {})
    return lambda folder: Made(kind, str(saved(folder / name, name)), options)


def _onnx(folder: Path) -> Made:
    from tests.support.small import SIZE, onnx_encoder  # it needs pydantic, and no other encoder here does

    return Made("onnx", str(onnx_encoder(folder / "e.onnx")), {"size": SIZE})


MAKERS: dict[str, Callable[[Path], Made]] = {
    "phantom": lambda folder: Made("medclip-vit", "builtin:phantom-encoder", {}),
    "medclip-vit": _swin,
    "medclip-resnet": _resnet,
    "biomedparse": _focal,
    **{name: _hub(name) for name in NAMES},
    "onnx": _onnx,
}


def radiographs(count: int) -> list[Image.Image]:
    """The shipped phantoms' films, of as many patients."""
    return [Image.fromarray(render(patient(11, number)[0])) for number in range(count)]


def cosines(a_ND: np.ndarray, b_ND: np.ndarray) -> np.ndarray:
    """Of each row, [N]."""
    return (a_ND * b_ND).sum(1) / np.linalg.norm(a_ND, axis=1) / np.linalg.norm(b_ND, axis=1)
