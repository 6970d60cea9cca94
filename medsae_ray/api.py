"""The few public functions. Each imports what it needs when it is called, so importing the package is light."""

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

    from medsae_ray.config import Recipe
    from medsae_ray.core.artifact import Artifact
    from medsae_ray.core.encoders.base import Encoder


def run(recipe: "Recipe | str | PathLike[str]", root: str | PathLike[str]) -> dict[str, Any]:
    """Run a recipe (a Recipe, a YAML file, or the name of a packaged one) below `root`, a path or URI.

    Returns the summary. Raises RecipeError, DatasetError, EncoderError, ArtifactError or ShardError; what was
    finished by then stays, and the next run goes on from there.
    """
    from medsae_ray.config import Recipe, load_recipe
    from medsae_ray.stages.pipeline import run_recipe

    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    return run_recipe(chosen, str(root))


def query(
    recipe: "Recipe | str | PathLike[str]",
    root: str | PathLike[str],
    text: str,
    *,
    features: int = 3,
    images: int = 10,
    split: str | None = None,
) -> dict[str, Any]:
    """The features of a finished run that answer a query in words, and the images that show them most.

    `way` of the answer is "text half" if the recipe has what.vocabulary: features by their cosine with the query, which
    is `score`, and `p`, the chance that a random mixture of features has such a cosine. Else it is "names": features
    by the words of their names and definitions, `score` is BM25. An image's `score` is 1 where all these features are
    as strong as they ever are; each patient has one image. `split` is "sae", "naming" or "detection"; None takes all.
    Raises RecipeError, or ArtifactError if the run is not finished.
    """
    from medsae_ray.config import Recipe, load_recipe
    from medsae_ray.service.finished import library_of, open_run

    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    return library_of(open_run(chosen, str(root))).ask(text, features, images, split)


def load_encoder(kind: str, weights: str | None = None, **options: Any) -> "Encoder":
    """A frozen encoder: kind is "medclip-vit", "medclip-resnet", "biomedparse", "dinov3", "huggingface" or "onnx".

    Its `encode(images, batch_size=...)` takes paths, PIL images or arrays and returns float32 [n, D];
    `embed_tokens(pixels)` gives the patches of images that `preprocess` has made. Raises EncoderError if weights and
    architecture do not fit.
    """
    from medsae_ray.core.encoders import load_encoder as load

    return load(kind, weights, **options)


class LoadedSae:
    """A trained SAE: arrays in, arrays out, on raw (not normalised) embeddings."""

    def __init__(self, artifact: "Artifact") -> None:
        from medsae_ray.core.encode import load_artifact_sae

        self.artifact = artifact
        self._sae = load_artifact_sae(artifact)

    def encode(self, x: "np.ndarray") -> "np.ndarray":
        """Embeddings [n, D] -> activations float32 [n, m], all >= 0."""
        return self._call(self._sae.encode, x)

    def decode(self, z: "np.ndarray") -> "np.ndarray":
        """Activations [n, m] -> embeddings float32 [n, D]."""
        return self._call(self._sae.decode, z)

    @staticmethod
    def _call(function: Any, values: "np.ndarray") -> "np.ndarray":
        import numpy as np
        import torch

        with torch.no_grad():
            return np.asarray(function(torch.as_tensor(np.asarray(values, dtype=np.float32))).numpy())


def load_sae(uri: str | PathLike[str]) -> LoadedSae:
    """The SAE of a finished `sae` artifact. Raises ArtifactError if there is none or its files are damaged."""
    return LoadedSae(open_artifact(uri))


def open_artifact(uri: str | PathLike[str]) -> "Artifact":
    """A finished artifact: `.schema`, `.record`, `.table()`, `.part(i)`. Raises ArtifactError if it is not finished."""
    from medsae_ray.core.artifact import open_artifact as open_

    return open_(str(uri))
