"""One image -> active features, by the run's encoder and SAE.

Legend: T tokens of the image (1 unless it has patches), D embedding dimension, M features.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from medsae_ray.core.encoders.embedding import Embedder
from medsae_ray.core.images.reader import Reading
from medsae_ray.core.retrieval.similar import Query, Similar
from medsae_ray.core.sae.activations import load_artifact_sae, tokens_encoded
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
    """The run's encoder and SAE. Several threads may use it, since both models only read."""

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

    @torch.no_grad()
    def active(self, image: Image.Image) -> ActiveFeatures:
        """Return the active features of an image. Raises ImageError as `embed` does."""
        x_1TD = self._tokens(image)
        _, z_TM = tokens_encoded(self._sae, x_1TD, self._device)
        row = sparse_rows(z_TM.amax(0, keepdim=True))
        return ActiveFeatures(row.indices.tolist(), row.values.tolist(), x_1TD.mean(1)[0])

    def _tokens(self, image: Image.Image) -> np.ndarray:
        """Embed the tokens of an image as float32 [1, T, D]."""
        x_1TD = self._embedder.embed(self._embedder.encoder.preprocess(image)[None])
        if not np.isfinite(x_1TD).all():
            raise ImageError("not_finite", "the encoder's output for this image is not a number")
        return x_1TD


def file_query(run: Finished, library: Similar, path: str) -> Query:
    """Encode an image file as the run's images were. RecipeError if there is none, ImageError if it is unusable."""
    if not Path(path).is_file():
        raise RecipeError(f"{path!r} is neither an image of this run, by its id, nor a file")
    encoder = ImageEncoder(run, on_cpu=True)  # one image, and a driver may have no GPU
    reading = Reading.of(run.recipe.what.images, encoder.side)
    active = encoder.active(reading.decoded(Path(path).read_bytes()))
    return library.of_activations(Path(path).name, *active)
