"""What every encoder is: options, which know its weights and its Preprocess (CPU, any process), and `embed` (the
device, one process).

Legend: N images, H, W, C their height, width and channels, S side of the encoder's input, D embedding dimension, T
patches of an image.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from medsae_ray.core.artifacts.local_copies import local_copy
from medsae_ray.core.encoders.checkpoint import content_hash, resolve
from medsae_ray.core.encoders.hub import pinned
from medsae_ray.core.encoders.inputs import ImageLike, listed, opened
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError, ImageError


class Tokens(NamedTuple):
    """The patches of each image, in reading order."""

    x: np.ndarray
    """float32 [N, T, D]."""
    grid: tuple[int, int]
    """(rows, columns) of the patches; T = rows * columns."""


@dataclass(frozen=True, kw_only=True)
class EncoderOptions(ABC):
    """The options that every kind has."""

    needs: ClassVar[str | None] = None
    """What how.paths.weights has to name; None where there are published weights."""
    takes_ids: ClassVar[bool] = False
    """Whether weights may be a Hugging Face id."""
    has_text: ClassVar[bool] = False
    """Whether its published weights have a text half."""
    library: ClassVar[str | None] = None
    """The package that runs it, where it is none that every installation has."""
    usual: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """What `load_encoder` takes for options that a recipe has to give."""
    later: ClassVar[frozenset[str]] = frozenset()
    """Options that artifacts are older than: they are named where they are not the default."""

    kind: str
    tokens: Literal["pooled", "patch"] = "pooled"
    """What the SAE learns from: one embedding per image, or each of its patches, which what.sae then calls images."""

    @property
    def published(self) -> str | None:
        """https URL or Hugging Face id of the weights that are used where none are given; None where there are none."""
        return None

    @property
    def patches(self) -> bool:
        """Whether a run keeps one embedding per patch instead of one per image."""
        return self.tokens == "patch"

    def identity(self) -> dict[str, Any]:
        """What of it names an artifact."""
        return {name: x for name, x in asdict(self).items() if name not in self.later or x != getattr(type(self), name)}

    @abstractmethod
    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "Encoder":
        """The encoder that `weights` makes; see `load_encoder`."""

    @abstractmethod
    def preprocess(self, weights: str | None = None) -> Preprocess:
        """The `preprocess` of the encoder that `weights` makes, without loading the weights."""

    def pinned(self, weights: str | None) -> str:
        """The weights that are meant: those given, or the published ones; of a Hugging Face id the commit of now."""
        return pinned(weights or self.published or "")

    def locate(self, weights: str | None = None) -> Path:
        """The file or folder of `weights` on this machine, downloaded where it has to be."""
        if not (weights or self.published):
            raise EncoderError(f"encoder {self.kind!r} has no published weights; weights must name some")
        return resolve(weights or self.published or "")

    def local(self, weights: str) -> str:
        """`weights` with a copy on this machine in place of a URI of an object store; anything else as it is.

        Raises EncoderError where there is none.
        """
        try:
            return local_copy(weights)
        except FileNotFoundError as error:
            raise EncoderError(f"weights {weights}: no such file ({error})") from error

    def notes(self, weights: str, dim: int) -> dict[str, Any]:
        """What a run should say of the encoder, whose embeddings have `dim` numbers, by a short name:
        {"class_scores": why its output may be no embedding}."""
        return {}

    def content_hash(self, path: Path) -> str:
        """sha256 of the contents that make the encoder of what `locate` found: of no path."""
        return content_hash(path)


class Encoder(ABC):
    """A frozen vision model. Embeddings are what the model gives: they are not L2-normalised."""

    kind: str
    """As a recipe names it."""
    dim: int
    """D."""
    preprocess: Preprocess

    @abstractmethod
    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        """Checked uint8 pixels, N >= 1 -> float32 [N, D]."""

    def _forward_tokens(self, pixels: np.ndarray) -> Tokens:
        """As `_forward`, for `embed_tokens`."""
        raise EncoderError(f"encoder {self.kind!r} has no patch tokens, only one embedding per image")

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 [N, S, S] (grey) or [N, S, S, 3] (colour), as `preprocess` makes them -> float32 [N, D].

        Normalises and runs the model in evaluation mode. An image's embedding does not depend on the others of the
        batch. Raises EncoderError where shape or dtype is another.
        """
        self._check(pixels)
        return self._forward(pixels) if len(pixels) else np.empty((0, self.dim), np.float32)

    def embed_tokens(self, pixels: np.ndarray) -> Tokens:
        """`pixels` as for `embed` -> what the model makes of each patch, class and register tokens left out.

        Raises EncoderError where the model has no patches.
        """
        self._check(pixels)
        if len(pixels):
            return self._forward_tokens(pixels)
        black = np.zeros((1, *self.preprocess.shape), np.uint8)
        tokens = self._forward_tokens(black)
        return Tokens(tokens.x[:0], tokens.grid)

    def _check(self, pixels: np.ndarray) -> None:
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.preprocess.shape:
            wanted = ", ".join(["N", *map(str, self.preprocess.shape)])
            raise EncoderError(f"{self.kind}: pixels are {pixels.dtype} {list(pixels.shape)}, uint8 [{wanted}] is read")

    def encode(self, images: ImageLike | Iterable[ImageLike], *, batch_size: int = 32) -> np.ndarray:
        """Images -> float32 [N, D], in order; one image by itself -> [1, D].

        An image is a path, a PIL image, or an array [H, W], [H, W, 1], [1, H, W], [H, W, 3] or [3, H, W] of integers
        (grey of 8 to 16 bits, colour of 8), or of floating point numbers in 0..1 or in 0..255. Raises ImageError that
        names the index (and path) of the first bad one, EncoderError for an array that may be one image or several.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        batches = [self.embed(np.stack(batch)) for batch in self._grids(listed(images), batch_size)]
        return np.concatenate(batches) if batches else np.empty((0, self.dim), np.float32)

    def _grids(self, images: Sequence[ImageLike], batch_size: int) -> Iterator[list[np.ndarray]]:
        for start in range(0, len(images), batch_size):
            yield [self._grid(i, images[i]) for i in range(start, min(start + batch_size, len(images)))]

    def _grid(self, index: int, image: ImageLike) -> np.ndarray:
        try:
            return self.preprocess(opened(image))
        except ImageError as error:
            where = f" ({os.fspath(image)})" if isinstance(image, str | os.PathLike) else ""
            detail = str(error).removeprefix(f"{error.reason}: ")
            raise ImageError(error.reason, f"image {index}{where}: {detail}") from error
