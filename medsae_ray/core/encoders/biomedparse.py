"""Kind "biomedparse": the image encoder of BiomedParse (v1), a FocalNet-L, as SAIL uses it.

Zhao et al., "A foundation model for joint segmentation, detection and recognition of biomedical objects across nine
modalities", Nature Methods 2025; Yang et al., "Focal Modulation Networks", NeurIPS 2022. The embedding is the mean of
the last stage's tokens after their norm (`norm3`); the segmentation part of the checkpoint is not read. Legend: N
images, S side, D embedding dimension, T tokens.
"""

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from medsae_ray.core.encoders.checkpoint import check_state, read_metadata, read_state, resolve
from medsae_ray.core.encoders.hub import is_id, snapshot
from medsae_ray.core.encoders.torch_encoder import (
    Channels,
    Grid,
    Mean,
    PixelNormalisation,
    Std,
    TorchEncoder,
    TorchOptions,
    square,
)
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError
from medsae_ray.options import Limits

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import FocalNetModel

# The mean and std of SAIL's code, for pixels in 0..255. Later configurations of BiomedParse's repository have
# (64.284, 59.293, 59.962) and (62.484, 60.865, 59.835): the options mean and std take them, divided by 255.
MEAN, STD = (123.675 / 255, 116.28 / 255, 103.53 / 255), (58.395 / 255, 57.12 / 255, 57.375 / 255)
_FILE = "biomedparse_v1.pt"
_FIRST = "patch_embed.proj.weight"
# (transformers, released): the fragments in which names differ.
_NAMES = (
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^encoder\.stages\.(\d+)\.layers\.", r"layers.\1.blocks."),
    (r"^encoder\.stages\.(\d+)\.downsample\.projection\.", r"layers.\1.downsample.proj."),
    (r"^encoder\.stages\.(\d+)\.downsample\.norm\.", r"layers.\1.downsample.norm."),
    (r"\.modulation\.projection_in\.", ".modulation.f."),
    (r"\.modulation\.projection_context\.", ".modulation.h."),
    (r"\.modulation\.projection_out\.", ".modulation.proj."),
)


@dataclass(frozen=True)
class FocalGeometry:
    """The shape of the FocalNet. The defaults are BiomedParse's; D is embed_dim * 2^(stages - 1)."""

    embed_dim: int = 192
    """The width of the first stage; it doubles at every further one."""
    depths: tuple[int, ...] = (2, 2, 18, 2)
    """The number of blocks per stage."""
    focal_levels: tuple[int, ...] = (4, 4, 4, 4)
    """The number of depth-wise convolutions per block, by stage."""
    focal_windows: tuple[int, ...] = (3, 3, 3, 3)
    """The side of the first of these convolutions, by stage; each further one is 2 wider."""

    def __post_init__(self) -> None:
        for field in fields(self)[1:]:
            object.__setattr__(self, field.name, tuple(int(n) for n in getattr(self, field.name)))
        if not len(self.depths) == len(self.focal_levels) == len(self.focal_windows) > 0:
            raise EncoderError(f"FocalNet geometry: one number per stage is needed everywhere, found {self}")


@dataclass(frozen=True, kw_only=True)
class BiomedparseOptions(TorchOptions):
    """BiomedParse's image encoder, as SAIL uses it: FocalNet-L, 1536 dimensions."""

    takes_ids = True
    kind: Literal["biomedparse"]
    size: Annotated[int, Limits(ge=32, le=4096, multiple_of=32)] = 1024
    """Side of the square input, in pixels."""
    mean: Mean | None = None
    """Mean, subtracted after scaling pixels to 0..1; null takes SAIL's (ImageNet's)."""
    std: Std | None = None
    """Standard deviation, which divides after the mean is subtracted; null takes SAIL's (ImageNet's)."""
    channels: Channels = "RGB"
    """Channels sent to the device; L sends grey images as one channel, repeated on the device, in a third of the
    memory."""

    @property
    def published(self) -> str:
        """The id of the repository that has the checkpoint."""
        return "microsoft/BiomedParse"

    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "BiomedParse":
        """Load `weights`: biomedparse_v1.pt, or a Hugging Face id of a repository that holds it."""
        return BiomedParse(self, weights, device, threads)

    def locate(self, weights: str | None = None) -> Path:
        """Find the checkpoint on this machine, downloading it if need be. EncoderError if the repository has none."""
        weights = weights or self.published
        if not is_id(weights):
            return resolve(weights)
        path = snapshot(weights, (_FILE,)) / _FILE
        if not path.is_file():
            raise EncoderError(f"weights {weights}: the model has no {_FILE}")
        return path

    def preprocess(self, weights: str | None = None) -> Preprocess:
        """Stretch images to `size`, bilinear. EncoderError if it is not a multiple of 32."""
        if self.size % 32:
            raise EncoderError(f"size is {self.size}; it must be a multiple of 32")
        return Preprocess(self.size, self.channels, "stretch", "bilinear")


class BiomedParse(TorchEncoder):
    """The backbone, without the segmentation part."""

    def __init__(self, options: BiomedparseOptions, weights: str | None, device: str, threads: int | None) -> None:
        super().__init__(options, device, threads)
        self.preprocess = options.preprocess(weights)
        self.normalisation = PixelNormalisation(
            MEAN if options.mean is None else options.mean, STD if options.std is None else options.std
        )
        self.normalisation.check(self.channels)
        self._tower = _load(options.locate(weights))
        self.dim = self._tower.num_features
        self._ready(self._tower)

    def _embedding(self, x_NCHW: "Tensor") -> "Tensor":
        e_ND: Tensor = self._tower(x_NCHW).last_hidden_state.float().mean(1)
        return e_ND

    def _tokens(self, x_NCHW: "Tensor") -> "tuple[Tensor, Grid]":
        x_NTD = self._tower(x_NCHW).last_hidden_state
        return x_NTD, square(x_NTD.shape[1])


def build_focalnet(geometry: FocalGeometry) -> "FocalNetModel":
    """Build a randomly initialised FocalNet: normalised float [N, 3, S, S] -> last_hidden_state [N, T, D], after
    `norm3`."""
    from transformers import FocalNetConfig, FocalNetModel

    config = FocalNetConfig(
        embed_dim=geometry.embed_dim,
        depths=list(geometry.depths),
        focal_levels=list(geometry.focal_levels),
        focal_windows=list(geometry.focal_windows),
        use_conv_embed=True,
        use_layerscale=True,
        use_post_layernorm=True,
        normalize_modulator=True,
    )
    return FocalNetModel(config, add_pooling_layer=False)


def released_name(key: str, last: int) -> str:
    """Translate transformers' tensor name `key` to the released backbone's; `last` is the last stage's number."""
    for current, released in _NAMES:
        key = re.sub(current, released, key)
    return re.sub(r"^layernorm\.", f"norm{last}.", key)


def _geometry(path: Path) -> FocalGeometry:
    stored = read_metadata(path, "focalnet")
    try:
        return FocalGeometry(**stored) if stored is not None else FocalGeometry()
    except (TypeError, ValueError) as error:
        raise EncoderError(f"weights {path}: FocalNet geometry {stored} cannot be used ({error})") from error


def _load(path: Path) -> "FocalNetModel":
    import torch

    geometry = _geometry(path)
    with torch.device("meta"):  # 200 million unused random numbers would cost seconds
        model = build_focalnet(geometry)
    last = len(geometry.depths) - 1
    names = {key: released_name(key, last) for key in model.state_dict()}
    found = _backbone(path, last)
    check_state(path, found, {names[key]: value for key, value in model.state_dict().items()})
    model.load_state_dict({key: found[name].float() for key, name in names.items()}, assign=True)
    return model


def _backbone(path: Path, last: int) -> "dict[str, Tensor]":
    """Read the backbone's tensors without their prefix, and without the norms of earlier stages, which are not used."""
    state = read_state(path)
    prefixes = [key.removesuffix(_FIRST) for key in state if key.endswith(_FIRST)]
    if len(prefixes) != 1:
        raise EncoderError(f"weights {path}: {len(prefixes)} tensors named *{_FIRST}; a BiomedParse checkpoint has one")
    inside = {key.removeprefix(prefixes[0]): value for key, value in state.items() if key.startswith(prefixes[0])}
    return {key: value for key, value in inside.items() if not re.match(rf"norm[^{last}]\.", key)}
