"""The shared base of encoders that run in torch: device, threads, precision and normalisation.

torch is imported when an encoder is built, so that a process that only decodes images, and needs only `preprocess`,
stays light. Legend: N images, S side, C channels of the model's input, D embedding dimension, T tokens.
"""

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np

from medsae_ray.core.encoders.base import Encoder, EncoderOptions, Tokens
from medsae_ray.errors import EncoderError
from medsae_ray.options import Limits, Seed

if TYPE_CHECKING:
    from torch import Tensor, nn

Mean = float | list[float]
Std = Annotated[float, Limits(gt=0)] | list[Annotated[float, Limits(gt=0)]]
Channels = Literal["L", "RGB"]
Fit = Literal["pad", "stretch", "crop"]
Side = Annotated[int, Limits(ge=8, le=4096)]
Grid = tuple[int, int]


@dataclass(frozen=True)
class PixelNormalisation:
    """The normalisation (x / divisor - mean) / std, with one number for all channels, or one per channel."""

    mean: float | Sequence[float]
    std: float | Sequence[float]
    divisor: float = 255.0

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            if isinstance(value := getattr(self, name), Sequence):
                object.__setattr__(self, name, tuple(float(v) for v in value))
        if np.min(self.std) <= 0:
            raise EncoderError(f"std is {self.std}; it must be positive")

    def check(self, channels: int) -> None:
        """Raise EncoderError unless mean and std have one number or `channels` numbers."""
        for name in ("mean", "std"):
            if np.size(getattr(self, name)) not in (1, channels):
                raise EncoderError(f"{name} is {getattr(self, name)}; one number is needed, or {channels}")


@dataclass(frozen=True, kw_only=True)
class TorchOptions(EncoderOptions):
    """The options of every encoder that runs in torch."""

    later: ClassVar[frozenset[str]] = frozenset({"random_weights"})

    precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of weights and activations. Embeddings are stored as float32 either way; those of bfloat16 have a
    cosine of at least 0.9995 with those of float32 (trained weights, and random ones of their size)."""
    random_weights: Seed | None = None
    """Seed of weights drawn anew: a control without anything learned, as SAIL has for BiomedParse. Every tensor gets
    numbers from the normal distribution of its own mean and deviation, so activations keep about their scale."""


class TorchEncoder(Encoder):
    """An encoder that torch computes, on a device and in a precision."""

    normalisation: PixelNormalisation
    channels: int = 3
    """The number of input channels C; grey is repeated."""

    def __init__(self, options: TorchOptions, device: str, threads: int | None) -> None:
        import torch

        precision = options.precision
        if device == "cuda" and not torch.cuda.is_available():
            raise EncoderError('device is "cuda", but torch finds no CUDA device here')
        if precision not in ("float32", "bfloat16"):
            raise EncoderError(f'precision is {precision!r}; it may be "float32" or "bfloat16"')
        if threads is not None:
            torch.set_num_threads(threads)
        if device == "cuda":
            # TF32 would cost the convolutions three digits. Set for the process and for good: another thread would undo
            # a switch around each batch in the middle of it.
            torch.backends.cudnn.allow_tf32 = False
        self.kind, self.device, self._dtype = options.kind, device, getattr(torch, precision)
        self._random_weights = options.random_weights

    def _ready(self, tower: "nn.Module") -> None:
        """Prepare `tower` for running: its weights, evaluation mode, the device, the precision."""
        if self._random_weights is not None:
            draw_weights(tower, self._random_weights)
        tower.eval().requires_grad_(False).to(self.device, self._dtype)

    @abstractmethod
    def _embedding(self, x_NCHW: "Tensor") -> "Tensor":
        """Embed normalised images as [N, D]."""

    @abstractmethod
    def _tokens(self, x_NCHW: "Tensor") -> "tuple[Tensor, Grid]":
        """Embed normalised images as ([N, T, D], (rows, columns))."""

    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        import torch

        with torch.inference_mode():
            return self._embedding(self._values(pixels)).float().cpu().numpy()

    def _forward_tokens(self, pixels: np.ndarray) -> Tokens:
        import torch

        with torch.inference_mode():
            x_NTD, grid = self._tokens(self._values(pixels))
            return Tokens(x_NTD.float().cpu().numpy(), grid)

    def _values(self, pixels: np.ndarray) -> "Tensor":
        """Normalise uint8 [N, S, S] or [N, S, S, 3] to [N, C, S, S]."""
        import torch

        x = torch.tensor(pixels)
        if self.device == "cuda":
            x = x.pin_memory()  # from there the copy to a GPU does not wait for the work before it
        x_NHWC = x.to(self.device, non_blocking=True).reshape(*pixels.shape[:3], -1)
        mean, std = self._mean_std
        x_NCHW = (x_NHWC.permute(0, 3, 1, 2).float() / self.normalisation.divisor - mean) / std
        return x_NCHW.expand(-1, self.channels, -1, -1).to(self._dtype).contiguous()

    @cached_property
    def _mean_std(self) -> "tuple[Tensor, Tensor]":
        """Mean and standard deviation on the device, [1 or C, 1, 1] each."""
        import torch

        def column(values: float | Sequence[float]) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.float32, device=self.device).reshape(-1, 1, 1)

        return column(self.normalisation.mean), column(self.normalisation.std)


def draw_weights(tower: "nn.Module", seed: int) -> None:
    """Replace every parameter by numbers from the normal distribution of its own mean and deviation. Buffers stay."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weights in sorted(tower.named_parameters()):
            spread = weights.float().std(correction=0)
            drawn = torch.randn(weights.shape, generator=generator) * spread + weights.float().mean()
            weights.copy_(drawn)


def map_tokens(x_NCHW: "Tensor", function: "Callable[[Tensor], Tensor]") -> "tuple[Tensor, Grid]":
    """Apply `function` to the places of a feature map [N, C, rows, columns] as tokens [N, T, C]; return it with the
    grid."""
    return function(x_NCHW.flatten(2).transpose(1, 2)), (x_NCHW.shape[2], x_NCHW.shape[3])


def square(tokens: int) -> Grid:
    """Return the largest square grid with at most as many places as `tokens`."""
    return (math.isqrt(tokens), math.isqrt(tokens))
