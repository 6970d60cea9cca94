"""The base of every encoder: options, which know its weights and its Preprocess (CPU, any process), and `embed` (the
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
    """The meaning of how.paths.weights, which is required; None if there are published weights."""
    takes_ids: ClassVar[bool] = False
    """True if weights may be a Hugging Face id."""
    has_text: ClassVar[bool] = False
    """True if its published weights have a text half."""
    library: ClassVar[str | None] = None
    """The optional package that runs it; None if every installation can run it."""
    usual: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    """The defaults of `load_encoder` for options that a recipe has to give."""
    later: ClassVar[frozenset[str]] = frozenset()
    """The options that are newer than existing artifacts: they enter the identity only if they are not the default."""

    kind: str
    tokens: Literal["pooled", "patch"] = "pooled"
    """Unit that the SAE learns from: one embedding per image, or each of its patches, which what.sae then calls
    images."""

    @property
    def published(self) -> str | None:
        """The https URL or Hugging Face id of the published weights, used by default; None if there are none."""
        return None

    @property
    def patches(self) -> bool:
        """True if a run keeps one embedding per patch instead of one per image."""
        return self.tokens == "patch"

    def identity(self) -> dict[str, Any]:
        """Return the options that enter an artifact's name."""
        return {name: x for name, x in asdict(self).items() if name not in self.later or x != getattr(type(self), name)}

    @abstractmethod
    def load(self, weights: str | None = None, *, device: str = "cpu", threads: int | None = None) -> "Encoder":
        """Load the encoder with `weights`; see `load_encoder`."""

    @abstractmethod
    def preprocess(self, weights: str | None = None) -> Preprocess:
        """Return the `preprocess` of the encoder with `weights`, without loading the weights."""

    def pinned(self, weights: str | None) -> str:
        """Resolve `weights` to the given or the published ones; a Hugging Face id gets its current commit."""
        return pinned(weights or self.published or "")

    def locate(self, weights: str | None = None) -> Path:
        """Return the file or folder of `weights` on this machine, downloaded if necessary."""
        if not (weights or self.published):
            raise EncoderError(f"encoder {self.kind!r} has no published weights; weights must name some")
        return resolve(weights or self.published or "")

    def local(self, weights: str) -> str:
        """Replace a URI of an object store by a copy on this machine; other values are returned unchanged.

        Raises EncoderError if there is no file.
        """
        try:
            return local_copy(weights)
        except FileNotFoundError as error:
            raise EncoderError(f"weights {weights}: no such file ({error})") from error

    def notes(self, weights: str, dim: int) -> dict[str, Any]:
        """Return notes of a run on the encoder, whose embeddings have `dim` numbers, by a short name:
        {"class_scores": reason why its output may not be an embedding}."""
        return {}

    def content_hash(self, path: Path) -> str:
        """Compute the sha256 of the contents that `locate` found, without their paths."""
        return content_hash(path)


class Encoder(ABC):
    """A frozen vision model. Embeddings are the model's raw output, not L2-normalised."""

    kind: str
    """The kind's name in a recipe."""
    dim: int
    """The embedding dimension D."""
    preprocess: Preprocess

    @abstractmethod
    def _forward(self, pixels: np.ndarray) -> np.ndarray:
        """Embed checked uint8 pixels, N >= 1, as float32 [N, D]."""

    def _forward_tokens(self, pixels: np.ndarray) -> Tokens:
        """Embed the patches of checked pixels, for `embed_tokens`."""
        raise EncoderError(f"encoder {self.kind!r} has no patch tokens, only one embedding per image")

    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Embed uint8 [N, S, S] (grey) or [N, S, S, 3] (colour), as `preprocess` makes them, as float32 [N, D].

        Normalises and runs the model in evaluation mode. An image's embedding does not depend on the others of the
        batch. Raises EncoderError for another shape or dtype.
        """
        self._check(pixels)
        return self._forward(pixels) if len(pixels) else np.empty((0, self.dim), np.float32)

    def embed_tokens(self, pixels: np.ndarray) -> Tokens:
        """Embed each patch of `pixels`, given as for `embed`, without class and register tokens.

        Raises EncoderError if the model has no patches.
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
        """Embed images in order as float32 [N, D]; one image by itself gives [1, D].

        An image is a path, a PIL image, or an array [H, W], [H, W, 1], [1, H, W], [H, W, 3] or [3, H, W] of integers
        (grey of 8 to 16 bits, colour of 8), or of floating point numbers in 0..1 or in 0..255. Raises ImageError that
        names the index (and path) of the first unusable one, and EncoderError for an array that may be one image or
        several.
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
