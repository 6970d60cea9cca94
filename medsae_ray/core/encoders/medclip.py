"""MedCLIP's vision encoders: "medclip-vit" (Swin) and "medclip-resnet" (ResNet-50).

Wang et al., "MedCLIP: Contrastive Learning from Unpaired Medical Images and Text", EMNLP 2022, and its public reference
code. Legend: N images, S side, D embedding dimension, T tokens.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

import numpy as np

from medsae_ray.core.encoders.checkpoint import read_metadata, resolve
from medsae_ray.core.encoders.torch_encoder import Grid, PixelNormalisation, TorchEncoder, TorchOptions
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from medsae_ray.core.encoders.networks import VitTower

MEAN, STD = 0.5862785803043838, 0.27950088968644304  # of grey pixels in 0..1, over MedCLIP's training images
URL_VIT = "https://storage.googleapis.com/pytrial/medclip-vit-pretrained.zip"
URL_RESNET = "https://storage.googleapis.com/pytrial/medclip-pretrained.zip"


@dataclass(frozen=True)
class SwinGeometry:
    """The shape of a "medclip-vit". The defaults are MedCLIP's: Swin-T and a projection to 512."""

    image_size: int = 224
    """The side S of the input, in pixels."""
    patch_size: int = 4
    """The side of a patch, in pixels."""
    embed_dim: int = 96
    """The width of the first stage; it doubles at every further one."""
    depths: tuple[int, ...] = (2, 2, 6, 2)
    """The number of blocks per stage."""
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    """The number of attention heads per stage; each divides the width of its stage."""
    window_size: int = 7
    """The side of an attention window in tokens; no stage may have fewer tokens a side."""
    projection: int = 512
    """The embedding dimension D."""

    def __post_init__(self) -> None:
        for name in ("depths", "num_heads"):
            object.__setattr__(self, name, tuple(int(n) for n in getattr(self, name)))
        if not self.depths or len(self.depths) != len(self.num_heads):
            raise EncoderError(f"Swin geometry: depths {self.depths} and num_heads {self.num_heads} differ in length")
        if min(n for value in asdict(self).values() for n in np.atleast_1d(value)) < 1:
            raise EncoderError(f"Swin geometry: every number must be at least 1, found {self}")
        self._check_stages()

    def _check_stages(self) -> None:
        if self.image_size % self.patch_size:
            raise EncoderError(f"Swin geometry: patches of {self.patch_size} px do not tile {self.image_size} px")
        for stage, heads in enumerate(self.num_heads):
            width, tokens = self.embed_dim * 2**stage, math.ceil(self.image_size / self.patch_size / 2**stage)
            if width % heads:
                raise EncoderError(f"Swin geometry: {heads} heads do not divide the width {width} of stage {stage}")
            if tokens < self.window_size:
                raise EncoderError(
                    f"Swin geometry: stage {stage} has {tokens} tokens a side, a window {self.window_size}"
                )


def build_vit(geometry: SwinGeometry) -> "VitTower":
    """Build a randomly initialised tower: normalised float [N, 3, S, S] (grey, repeated to three) -> [N,
    projection]."""
    from transformers import SwinConfig

    from medsae_ray.core.encoders.networks import VitTower

    config = SwinConfig(
        image_size=geometry.image_size,
        patch_size=geometry.patch_size,
        embed_dim=geometry.embed_dim,
        depths=list(geometry.depths),
        num_heads=list(geometry.num_heads),
        window_size=geometry.window_size,
    )
    return VitTower(config, geometry.projection)


def save_vit(
    module: "nn.Module", geometry: SwinGeometry, path: str | Path, *, mean: float = MEAN, std: float = STD
) -> None:
    """Write a tower of `build_vit` as safetensors in the released layout, with its geometry and normalisation.

    `load_encoder("medclip-vit", path)` reads it back. The file appears by rename.
    """
    from safetensors.torch import save_file

    from medsae_ray.core.encoders.networks import VitTower, released_state

    if Path(path).suffix != ".safetensors":
        raise EncoderError(f"save_vit writes a .safetensors file, asked for {path}")
    if not isinstance(module, VitTower):
        raise EncoderError(f"save_vit writes a module from build_vit, found {type(module).__name__}")
    preprocess = {"mean": mean, "std": std, "size": geometry.image_size}
    metadata = {"format": "pt", "swin": json.dumps(asdict(geometry)), "preprocess": json.dumps(preprocess)}
    partial = Path(f"{path}.partial")
    save_file(released_state(module), partial, metadata=metadata)
    partial.replace(path)


def _geometry(path: Path | None) -> SwinGeometry:
    stored = read_metadata(path, "swin") if path else None
    try:
        return SwinGeometry(**stored) if stored is not None else SwinGeometry()
    except (TypeError, ValueError) as error:
        raise EncoderError(f"weights {path}: Swin geometry {stored} cannot be used ({error})") from error


def _stored_normalisation(path: Path, size: int) -> PixelNormalisation:
    stored: dict[str, Any] = read_metadata(path, "preprocess") or {}
    if stored.get("size", size) != size:
        raise EncoderError(f"weights {path}: preprocess size {stored['size']} differs from image_size {size}")
    return PixelNormalisation(float(stored.get("mean", MEAN)), float(stored.get("std", STD)))


@dataclass(frozen=True, kw_only=True)
class MedclipOptions(TorchOptions):
    """MedCLIP's vision half: Swin-T (vit) or ResNet-50 (resnet), 512 dimensions."""

    has_text = True
    kind: Literal["medclip-vit", "medclip-resnet"]

    @property
    def published(self) -> str:
        """The URL of the kind's weights."""
        return URL_VIT if self.kind == "medclip-vit" else URL_RESNET

    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "MedClip":
        """Load the tower of `weights`; a vit has the geometry stated in the checkpoint, else Swin-T's."""
        return MedClip(self, weights, device, threads)

    def preprocess(self, weights: str | None = None) -> Preprocess:
        """Return the usual one; for a vit, at the image size of the geometry stated in the checkpoint's file."""
        # Only a safetensors file of a vit states a geometry, so nothing else is worth a download.
        at_hand = weights and ("://" not in weights or urlsplit(weights).path.endswith(".safetensors"))
        if self.kind == "medclip-resnet":
            return Preprocess()
        return Preprocess(size=_geometry(resolve(weights) if weights and at_hand else None).image_size)


class MedClip(TorchEncoder):
    """A MedCLIP tower. Grey input is repeated to three channels, and both towers have one normalisation.

    The embedding is a projection of the mean token, so tokens are projected too: their mean is the embedding.
    """

    def __init__(self, options: MedclipOptions, weights: str | None, device: str, threads: int | None) -> None:
        from medsae_ray.core.encoders.networks import ResNetTower, Tower, load_released

        super().__init__(options, device, threads)
        self.preprocess, path = options.preprocess(weights), options.locate(weights)
        tower: Tower = build_vit(_geometry(path)) if options.kind == "medclip-vit" else ResNetTower(512)
        load_released(tower, path)
        self.dim = tower.dim
        self.normalisation = _stored_normalisation(path, self.preprocess.size)
        self._tower = tower
        self._ready(tower)

    def _embedding(self, x_NCHW: "Tensor") -> "Tensor":
        e_ND: Tensor = self._tower(x_NCHW)
        return e_ND

    def _tokens(self, x_NCHW: "Tensor") -> "tuple[Tensor, Grid]":
        return self._tower.tokens(x_NCHW)
