"""Kinds "huggingface", any vision model that transformers' AutoModel loads, and "dinov3".

Siméoni et al., "DINOv3", arXiv 2508.10104. Models with a text half (CLIP, SigLIP) give their vision half. Legend: N
images, S side, D embedding dimension, T tokens.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from medsae_ray.core.encoders.hub import model_folder
from medsae_ray.core.encoders.processor import image_settings, model_setting
from medsae_ray.core.encoders.torch_encoder import (
    Channels,
    Fit,
    Grid,
    Mean,
    PixelNormalisation,
    Side,
    Std,
    TorchEncoder,
    TorchOptions,
    map_tokens,
    square,
)
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

POOLS = ("pooler", "cls", "mean")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class TransformersOptions(TorchOptions):
    """The options of models that transformers loads; null takes the value in their files."""

    takes_ids = True
    fallback: ClassVar[Mapping[str, Any] | None] = None
    """The substitute for a missing preprocessor_config.json."""

    pool: Literal["pooler", "cls", "mean"] = "pooler"
    """Embedding of an image: the model's own pooled output, its class token, or the mean of its patch tokens."""
    size: Side | None = None
    """Side of the square input, in pixels; null takes that of the model's files."""
    resize: Side | None = None
    """Side, or with fit crop the short side, after the resize and before the centre of `size` is cut."""
    fit: Fit | None = None
    """Way to make an image square: black border, resize, or centre crop."""
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos"] | None = None
    """Interpolation of the resize."""
    mean: Mean | None = None
    """Mean, subtracted after scaling pixels to 0..1, one value or one per channel."""
    std: Std | None = None
    """Standard deviation, which divides after the mean is subtracted."""
    channels: Channels = "RGB"
    """Channels sent to the device; L sends grey images as one channel, repeated on the device, in a third of the
    memory."""

    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "HuggingFace":
        """Load `weights`: a Hugging Face id, "owner/name" or "owner/name@revision", or a folder from
        save_pretrained."""
        return HuggingFace(self, weights, device, threads)

    def locate(self, weights: str | None = None) -> Path:
        """Find the model's folder on this machine, downloading it if need be. EncoderError without weights."""
        if not (weights or self.published):
            raise EncoderError(f"encoder {self.kind!r}: weights must name a Hugging Face id or a folder")
        return model_folder(weights or self.published or "")

    def preprocess(self, weights: str | None = None) -> Preprocess:
        """Read it from the model's files, unless the options override it; weights are not downloaded."""
        return self.images(model_folder(weights or self.published or "", settings_only=True))[0]

    def images(self, folder: Path) -> tuple[Preprocess, PixelNormalisation]:
        """Return the preprocessing and normalisation of the model in `folder`."""
        keys = ("size", "resize", "fit", "resample", "channels", "mean", "std")
        return image_settings(folder, {key: getattr(self, key) for key in keys}, self.fallback)


@dataclass(frozen=True, kw_only=True)
class HuggingfaceOptions(TransformersOptions):
    """A vision model that transformers' AutoModel loads; how.paths.weights names its id or folder."""

    needs = "a Hugging Face id (owner/name or owner/name@revision) or a folder"
    kind: Literal["huggingface"]


@dataclass(frozen=True, kw_only=True)
class Dinov3Options(TransformersOptions):
    """DINOv3, as SAIL uses it: ViT-L/16, 1024 dimensions; how.paths.weights may name another of its models."""

    fallback = MappingProxyType({"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD, "resample": 2, "size": 224})
    kind: Literal["dinov3"]
    size: Side = 1024
    """Side of the square input, in pixels; SAIL's is 1024."""

    @property
    def published(self) -> str:
        """The id of ViT-L/16."""
        return "facebook/dinov3-vitl16-pretrain-lvd1689m"

    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "Dinov3":
        """Load `weights` as of any model of transformers."""
        return Dinov3(self, weights, device, threads)


class HuggingFace(TorchEncoder):
    """A vision model of transformers.

    With `pool` pooler the embedding is the model's own pooler_output, with cls its first token, and with mean the mean
    of the patch tokens, without class and register tokens.
    """

    def __init__(self, options: TransformersOptions, weights: str | None, device: str, threads: int | None) -> None:
        if options.pool not in POOLS:
            raise EncoderError(f"pool is {options.pool!r}; it may be one of {', '.join(POOLS)}")
        super().__init__(options, device, threads)
        self._where, self._pool = options.locate(weights), options.pool
        self.preprocess, self.normalisation = options.images(self._where)
        self.channels = model_setting(self._where, "num_channels") or 3
        if self.channels < len(options.channels):
            raise EncoderError(f"{self._where}: the model takes {self.channels} channel; set channels to L")
        self.normalisation.check(self.channels)
        self._build()
        self.dim = self._width()

    def _build(self) -> None:
        from medsae_ray.core.encoders.automodel import vision_model

        tower = vision_model(self._where, pooler=self._pool == "pooler")
        # Position embeddings learned for another size are stretched only on request.
        stretches = "interpolate_pos_encoding" in inspect.signature(tower.forward).parameters
        other = self.preprocess.size != model_setting(self._where, "image_size")
        self._arguments = {"interpolate_pos_encoding": True} if stretches and other else {}
        self._tower = tower
        self._ready(tower)

    def _width(self) -> int:
        """Return D of one black image, which also proves that the model runs and supports `pool`."""
        black = np.zeros((1, *self.preprocess.shape), np.uint8)
        try:
            dim: int = self._forward(black).shape[1]
            return dim
        except EncoderError:
            raise
        except Exception as error:  # each model has its own for a size that it does not take
            raise EncoderError(f"{self._where}: the model fails on {list(black.shape)} ({error})") from error

    def _embedding(self, x_NCHW: "Tensor") -> "Tensor":
        output = self._run(x_NCHW)
        if self._pool == "pooler":
            if getattr(output, "pooler_output", None) is None:
                raise EncoderError(f"{self._where}: the model has no pooler_output; use pool cls or mean")
            e_ND: Tensor = output.pooler_output.flatten(1)
            return e_ND
        first, x_NTD, _ = _parts(output.last_hidden_state)
        if self._pool == "mean":
            return x_NTD.float().mean(1)
        if not first.shape[1]:
            raise EncoderError(f"{self._where}: the model has no class token; use pool pooler or mean")
        return first[:, 0]

    def _tokens(self, x_NCHW: "Tensor") -> "tuple[Tensor, Grid]":
        hidden = getattr(self._run(x_NCHW), "last_hidden_state", None)
        if hidden is None or hidden.ndim not in (3, 4):
            raise EncoderError(f"{self._where}: the model gives no patch tokens, only one embedding per image")
        first, x_NTD, grid = _parts(hidden)
        # Class, distillation and register tokens. With more of them the tokens are not a grid of patches.
        most = 2 + (model_setting(self._where, "num_register_tokens") or 0)
        if first.shape[1] > most or not x_NTD.shape[1]:
            raise EncoderError(
                f"{self._where}: the model's {hidden.shape[1]} tokens are no square grid of patches after at most "
                f"{most} others; use tokens: pooled"
            )
        return x_NTD, grid

    def _run(self, x_NCHW: "Tensor") -> Any:
        return self._tower(pixel_values=x_NCHW, **self._arguments)


class Dinov3(HuggingFace):
    """DINOv3's ViT and ConvNeXt models: the layer-normed class token (ViT) or mean (ConvNeXt), as `pooler_output`.

    SAIL computes in bfloat16 on a GPU, as `precision` bfloat16 does.
    """

    def _build(self) -> None:
        found = model_setting(self._where, "model_type")
        if found not in ("dinov3_vit", "dinov3_convnext"):
            raise EncoderError(f"{self._where}: a {found} model; kind dinov3 reads dinov3_vit and dinov3_convnext")
        super()._build()

    def _width(self) -> int:
        # Known from the configuration: a black image of 1024 px costs a minute of a CPU.
        sizes = model_setting(self._where, "hidden_sizes")
        return int(sizes[-1] if sizes else model_setting(self._where, "hidden_size"))


def _parts(hidden: "Tensor") -> "tuple[Tensor, Tensor, Grid]":
    """Split a model's last hidden state into class and register tokens [N, P, D], patch tokens [N, T, D] and the grid.

    Inputs are square, so the patches are the largest square number of tokens, and the tokens before them are not
    patches. True as long as P is at most twice the grid's side.
    """
    if hidden.ndim == 4:
        x_NTD, grid = map_tokens(hidden, lambda tokens: tokens)
        return x_NTD[:, :0], x_NTD, grid
    grid = square(hidden.shape[1])
    patches = grid[0] * grid[1]
    return hidden[:, : hidden.shape[1] - patches], hidden[:, hidden.shape[1] - patches :], grid
