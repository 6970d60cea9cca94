"""What every encoder is: a Preprocess (CPU, any process) and `embed` (the device, one process).

Legend: N images, H, W, C their height, width and channels, S side of the encoder's input, D embedding dimension, T
patches of an image.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from medsae_ray.core.encoders.checkpoint import resolve
from medsae_ray.core.images import Preprocess, grey_to_8_bit, read_image
from medsae_ray.errors import EncoderError, ImageError

ImageLike = str | os.PathLike[str] | Image.Image | np.ndarray


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

    def encode(self, images: Sequence[ImageLike], *, batch_size: int = 32) -> np.ndarray:
        """Images -> float32 [N, D], in order.

        An image is a path, a PIL image, or an array: uint8 or uint16 [H, W], or uint8 [H, W, 3]. Raises ImageError
        that names the index (and path) of the first bad one.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        batches = [self.embed(np.stack(batch)) for batch in self._grids(images, batch_size)]
        return np.concatenate(batches) if batches else np.empty((0, self.dim), np.float32)

    def _grids(self, images: Sequence[ImageLike], batch_size: int) -> Iterator[list[np.ndarray]]:
        for start in range(0, len(images), batch_size):
            yield [self._grid(i, images[i]) for i in range(start, min(start + batch_size, len(images)))]

    def _grid(self, index: int, image: ImageLike) -> np.ndarray:
        try:
            return self.preprocess(_as_image(image))
        except ImageError as error:
            where = f" ({os.fspath(image)})" if isinstance(image, str | os.PathLike) else ""
            detail = str(error).removeprefix(f"{error.reason}: ")
            raise ImageError(error.reason, f"image {index}{where}: {detail}") from error


def _as_image(image: ImageLike) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image)
    try:
        data = Path(image).read_bytes()
    except FileNotFoundError as error:
        raise ImageError("missing", "no such file") from error
    except OSError as error:
        raise ImageError("unreadable", str(error)) from error
    return read_image(data)


def _from_array(array: np.ndarray) -> Image.Image:
    if array.size == 0:
        raise ImageError("empty", f"an array of shape {list(array.shape)}")
    if array.dtype == np.uint16 and array.ndim == 2:
        return Image.fromarray(grey_to_8_bit(array))
    if array.dtype == np.uint8 and (array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)):
        return Image.fromarray(array)
    found = f"{array.dtype} {list(array.shape)}"
    raise ImageError("unsupported_mode", f"an array {found}; uint8 or uint16 [H, W] or uint8 [H, W, 3] is read")
