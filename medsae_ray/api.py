"""The few public functions. Each imports what it needs when it is called, so importing the package is light."""

from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike
    from torch import Tensor

    from medsae_ray.config import Recipe
    from medsae_ray.core.artifacts.artifact import Artifact
    from medsae_ray.core.encoders.base import Encoder

MOST = 1000
"""Features or images that a query may ask for."""


def run(recipe: "Recipe | str | PathLike[str]", root: str | PathLike[str]) -> dict[str, Any]:
    """Run a recipe (a Recipe, a YAML file, or the name of a packaged one) below `root`, a path or URI.

    Returns the summary. Raises RecipeError, DatasetError, EncoderError, ArtifactError or ShardError; what was
    finished by then stays, and the next run goes on from there.
    """
    from medsae_ray.config import Recipe, load_recipe
    from medsae_ray.pipeline import run_recipe

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
    Raises RecipeError, also for an unknown split and for counts that are not from 1 to 1000, or ArtifactError if the
    run is not finished.
    """
    from medsae_ray.config import Recipe, load_recipe
    from medsae_ray.core.artifacts.schema import SPLITS
    from medsae_ray.errors import RecipeError
    from medsae_ray.finished import library_of, open_run

    if split is not None and split not in SPLITS:
        raise RecipeError(f"split is {split!r}; it may be one of {', '.join(SPLITS)}, or None for all")
    for name, count in (("features", features), ("images", images)):
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
            raise RecipeError(f"{name} is {count!r}; it must be a whole number from 1 to {MOST}")
    if not isinstance(text, str) or not text.strip():
        raise RecipeError(f"the query is {text!r}; words are needed")
    chosen = recipe if isinstance(recipe, Recipe) else load_recipe(str(recipe))
    return library_of(open_run(chosen, str(root))).ask(text, features, images, split)


def load_encoder(kind: str, weights: str | None = None, **options: Any) -> "Encoder":
    """A frozen encoder: kind is "medclip-vit", "medclip-resnet", "biomedparse", "dinov3", "huggingface" or "onnx".

    Its `encode(images, batch_size=...)` takes one image or several, as paths, PIL images or arrays, and returns float32
    [n, D];
    `embed_tokens(pixels)` gives the patches of images that `preprocess` has made. Raises EncoderError if weights and
    architecture do not fit.
    """
    from medsae_ray.core.encoders import load_encoder as load

    return load(kind, weights, **options)


class LoadedSae:
    """A trained SAE: arrays in, arrays out, on raw (not normalised) embeddings."""

    def __init__(self, artifact: "Artifact") -> None:
        from medsae_ray.core.sae.activations import load_artifact_sae

        self.artifact = artifact
        self._sae = load_artifact_sae(artifact)

    def encode(self, x: "ArrayLike") -> "np.ndarray":
        """Embeddings [n, D] -> activations float32 [n, m], all >= 0.

        NumPy arrays, torch tensors and nested lists of real numbers are taken. ValueError for another shape, for NaN
        and for Inf.
        """
        return self._call(self._sae.encode, x, "embeddings")

    def decode(self, z: "ArrayLike") -> "np.ndarray":
        """Activations [n, m] -> embeddings float32 [n, D]; takes and refuses what `encode` does."""
        return self._call(self._sae.decode, z, "activations")

    @staticmethod
    def _call(function: Any, values: Any, what: str) -> "np.ndarray":
        import numpy as np
        import torch

        tensor = _real(values, what)
        with torch.no_grad():
            return np.asarray(function(tensor).numpy())


def _real(values: Any, what: str) -> "Tensor":
    """float32, on the CPU. ValueError for what holds no finite real numbers."""
    import numpy as np
    import torch

    if not isinstance(values, torch.Tensor):
        try:
            array = np.asarray(values)
        except ValueError as error:
            raise ValueError(f"{what} are rows of different lengths ({error})") from error
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{what} are {array.dtype} {list(array.shape)}; real numbers are wanted")
        with np.errstate(over="ignore"):  # what is too large becomes Inf, which is refused below
            values = torch.as_tensor(array.astype(np.float32))
    if values.dtype == torch.bool or values.is_complex():
        raise ValueError(f"{what} are {values.dtype} {list(values.shape)}; real numbers are wanted")
    plain: Tensor = values.detach().to("cpu", torch.float32).contiguous()
    if not plain.isfinite().all():
        first = (~plain.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"{what} {list(plain.shape)} hold NaN or Inf (in float32), first at {first}")
    return plain


def load_sae(uri: str | PathLike[str]) -> LoadedSae:
    """The SAE of a finished `sae` artifact. Raises ArtifactError if there is none or its files are damaged."""
    return LoadedSae(open_artifact(uri))


def open_artifact(uri: str | PathLike[str]) -> "Artifact":
    """A finished artifact: `.schema`, `.record`, `.table()`, `.part(i)`. Raises ArtifactError if it is not finished."""
    from medsae_ray.core.artifacts.artifact import open_artifact as open_

    return open_(str(uri))
