"""Images -> active features, by the run's encoder and SAE.

Legend: N images, T tokens of an image (1 unless it has patches), D embedding dimension, M features.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from medsae_ray.core.analysis.likeness import Judge
from medsae_ray.core.encoders.embedding import Embedder
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.retrieval.similar import Query, Similar
from medsae_ray.core.sae.activations import TOKENS, load_artifact_sae, tokens_encoded
from medsae_ray.core.sae.sparse import sparse_rows
from medsae_ray.errors import ImageError, RecipeError
from medsae_ray.finished import Finished


class ActiveFeatures(NamedTuple):
    """The active features of one image, as the run stores them, and its embedding."""

    feature: list[int]
    """The indices, ascending."""
    value: list[float]
    embedding_D: np.ndarray
    """The image's embedding, the mean over patches."""


class ImageEncoder:
    """The run's encoder and SAE. Several threads may use it, since both models only
    read."""

    def __init__(self, run: Finished, on_cpu: bool = False) -> None:
        """Load both models onto the recipe's devices, or onto the CPU."""
        what, how = run.recipe.what, run.recipe.how
        embeds, self._device = ("cpu", "cpu") if on_cpu else (how.embed.device, how.encode.device)
        weights = what.encoder.local(what.encoder.pinned(how.paths.weights))
        encoder = what.encoder.load(weights, device=embeds, threads=how.embed.threads)
        self._embedder = Embedder.of(encoder, what.encoder.patches)
        self._sae = load_artifact_sae(run.sae).to(self._device).eval()

    @property
    def side(self) -> int:
        """The side of the encoder's square input, in pixels."""
        return self._embedder.encoder.preprocess.size

    def embed(self, image: Image.Image) -> np.ndarray:
        """Embed an image as float32 [1, D], the mean over patches. Raises ImageError if the embedding is not finite."""
        return np.asarray(self._tokens(image).mean(1))

    def active(self, image: Image.Image) -> ActiveFeatures:
        """Return the active features of an image. Raises ImageError as `embed` does."""
        return self._active(self._tokens(image))[0]

    def pixels(self, image: Image.Image) -> np.ndarray:
        """Bring an image to the encoder's input grid, uint8. Raises ImageError if that is not possible."""
        return self._embedder.encoder.preprocess(image)

    def active_of(self, pixels: Sequence[np.ndarray]) -> list[ActiveFeatures | Exception]:
        """Return the active features of N images, given as `pixels` gives them, or the ImageError of `embed`."""
        x_NTD = self._embedder.embed(np.stack(pixels))
        finite = np.isfinite(x_NTD).all(axis=(1, 2))
        found = iter(self._active(x_NTD[finite]))
        return [next(found) if ok else _not_finite() for ok in finite]

    @torch.no_grad()
    def _active(self, x_NTD: np.ndarray) -> list[ActiveFeatures]:
        size = max(1, TOKENS // max(1, x_NTD.shape[1]))
        return [row for start in range(0, len(x_NTD), size) for row in self._encoded(x_NTD[start : start + size])]

    def _encoded(self, x_NTD: np.ndarray) -> Iterator[ActiveFeatures]:
        _, z = tokens_encoded(self._sae, x_NTD, self._device)
        rows = sparse_rows(z.unflatten(0, x_NTD.shape[:2]).amax(1))
        for x_TD, (start, end) in zip(x_NTD, pairwise(rows.offsets.tolist()), strict=True):
            yield ActiveFeatures(rows.indices[start:end].tolist(), rows.values[start:end].tolist(), x_TD.mean(0))

    def _tokens(self, image: Image.Image) -> np.ndarray:
        """Embed the tokens of an image as float32 [1, T, D]."""
        x_1TD = self._embedder.embed(self._embedder.encoder.preprocess(image)[None])
        if not np.isfinite(x_1TD).all():
            raise _not_finite()
        return x_1TD


def _not_finite() -> ImageError:
    return ImageError("not_finite", "the encoder's output for this image is not a number")


def file_query(run: Finished, library: Similar, path: str) -> Query:
    """Encode an image file as the run's images were. RecipeError if there is none, ImageError if it is unusable."""
    if not Path(path).is_file():
        raise RecipeError(f"{path!r} is neither an image of this run, by its id, nor a file")
    encoder = ImageEncoder(run, on_cpu=True)  # one image, and a driver may have no GPU
    reading = Reading.of(run.recipe.what.images, encoder.side)
    active = encoder.active(reading.decoded(Path(path).read_bytes()))
    judged = Judge(run.likeness).of_embedding(active.embedding_D) if run.likeness else None
    return library.of_activations(Path(path).name, active.feature, active.value, judged)
