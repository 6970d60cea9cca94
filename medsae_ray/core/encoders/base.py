"""What every encoder is: a Preprocess (CPU, any process) and `embed` (the device, one process).

Legend: N images, H, W, C their height, width and channels, S side of the encoder's input, D embedding dimension, T
patches of an image.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np

from medsae_ray.core.artifacts.local_copies import local_copy
from medsae_ray.core.encoders.checkpoint import content_hash, resolve
from medsae_ray.core.encoders.inputs import ImageLike, listed, opened
from medsae_ray.core.images.decode import Preprocess
from medsae_ray.errors import EncoderError, ImageError


class Tokens(NamedTuple):
    """The patches of each image, in reading order."""

    x: np.ndarray
    """float32 [N, T, D]."""
    grid: tuple[int, int]
    """(rows, columns) of the patches; T = rows * columns."""


class Encoder(ABC):
    """A frozen vision model. Embeddings are what the model gives: they are not L2-normalised."""

    kind: ClassVar[str]
    """Its key in ENCODERS."""
    published: ClassVar[str | None] = None
    """https URL or Hugging Face id of the published weights, used where none are given; None where there are none."""
    dim: int
    """D."""
    preprocess: Preprocess
    notes: Mapping[str, Any] = MappingProxyType({})
    """What a run should say of this encoder, by a short name: {"class_scores": why its output may be no embedding}."""

    @classmethod
    @abstractmethod
    def preprocess_for(cls, weights: str | None = None, **options: Any) -> Preprocess:
        """The `preprocess` of the encoder that `weights` makes, without loading the weights."""

    @classmethod
    def locate(cls, weights: str | None = None) -> Path:
        """The file or folder of `weights` on this machine, downloaded where it has to be."""
        if not (weights or cls.published):
            raise EncoderError(f"encoder {cls.kind!r} has no published weights; weights must name some")
        return resolve(weights or cls.published or "")

    @classmethod
    def local(cls, weights: str) -> str:
        """`weights` with a copy on this machine in place of a URI of an object store; anything else as it is.

        Raises EncoderError where there is none.
        """
        try:
            return local_copy(weights)
        except FileNotFoundError as error:
            raise EncoderError(f"weights {weights}: no such file ({error})") from error

    @classmethod
    def content_hash(cls, path: Path) -> str:
        """sha256 of the contents that make the encoder of what `locate` found: of no path."""
        return content_hash(path)

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
