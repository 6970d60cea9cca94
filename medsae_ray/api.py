"""The few public functions. Each imports its needs when called, so importing the package is light."""

from os import PathLike
from typing import TYPE_CHECKING, Any, cast

from medsae_ray.sae import Sae

if TYPE_CHECKING:
    from rich.console import Console

    from medsae_ray.config import Recipe
    from medsae_ray.core.artifacts.artifact import Artifact
    from medsae_ray.core.encoders.base import Encoder
    from medsae_ray.core.retrieval.answer import QueryAnswer, Ranking, SimilarAnswer, Way
    from medsae_ray.outputs.summary_types import Summary

MOST = 1000
"""The most features or images that a query may ask for."""


def load_recipe(path: str | PathLike[str]) -> "Recipe":
    """Read a recipe: a YAML file, or the name of one that comes with the package ("phantom").

    Raises RecipeError that names every wrong key, its value and the allowed ones.
    """
    from medsae_ray.config import load_recipe as load

    return load(str(path))


def run(recipe: "Recipe | str | PathLike[str]", root: str | PathLike[str], *, progress: bool = False) -> "Summary":
    """Run a recipe (a Recipe, a YAML file, or the name of a packaged one) below `root`, a path or URI.

    Returns the summary. With `progress` it prints the output of `medsae run`: bars in a terminal and in a notebook that
    has ipywidgets, elsewhere an occasional line.

    Raises RecipeError (DivergedError among them), DatasetError, EncoderError, ArtifactError, ShardError, EngineError or
    NamingError; finished artifacts stay, and the next run continues from them.
    """
    from medsae_ray.pipeline import run_recipe

    return run_recipe(_recipe(recipe), str(root), _console() if progress else None)


def _recipe(recipe: "Recipe | str | PathLike[str]") -> "Recipe":
    from medsae_ray.config import Recipe

    return recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def _console() -> "Console":
    """Return a console for the progress. Rich needs ipywidgets to show bars in a notebook."""
    from importlib.util import find_spec

    from rich.console import Console

    console = Console()
    return Console(force_interactive=find_spec("ipywidgets") is not None) if console.is_jupyter else console


def query(
    recipe: "Recipe | str | PathLike[str]",
    root: str | PathLike[str],
    text: str,
    *,
    features: int = 3,
    images: int = 10,
    split: str | None = None,
    by: str | None = None,
    ranking: str = "strength",
    exactly: bool = False,
    model: str | None = None,
    url: str | None = None,
    key_variable: str | None = None,
) -> "QueryAnswer":
    """Return the features of a finished run that answer a query in words, and the images that show them most.

    The answer's `way` is "text half" if the recipe has what.vocabulary: features are ranked by their cosine with the
    query, the `score`, and `p` is the chance that a random mixture of features has such a cosine. Else it is "names":
    features are ranked by the words of their names and definitions, and `score` is BM25. An image's `score` is 1 if all
    these features are at their maximum; each patient has one image. `split` is "sae", "naming" or "detection"; None
    takes all. What the query negates is `excluded`: no image has these features. `refused` is the reason if a query is
    not answered.

    `by` names the way, one of the two or "model": a model picks at most `features` names, or `exactly` so many, from a
    numbered list. It is the recipe's, or `model` of an OpenAI-compatible server at `url`, whose key is in the
    environment variable `key_variable`. With `ranking` "cosine" images are compared as in SAIL.

    Raises RecipeError, also for an unknown split and for counts outside 1 to 1000, ArtifactError if the run is not
    finished, or EngineError if the model cannot be reached.
    """
    from medsae_ray.core.retrieval.answer import RANKINGS, WAYS
    from medsae_ray.errors import RecipeError
    from medsae_ray.finished import library_of, open_run

    _check(split, features=features, images=images)
    if not isinstance(text, str) or not text.strip():
        raise RecipeError(f"the query is {text!r}; words are needed")
    if by not in (None, *WAYS) or ranking not in RANKINGS:
        raise RecipeError(
            f"by is {by!r}, ranking {ranking!r}; they may be {', '.join(WAYS)}, and {', '.join(RANKINGS)}"
        )
    if (url is None) != (model is None) or ((url or exactly) and by != "model"):
        raise RecipeError("model and url come together, and they and exactly are for by='model'")
    run = open_run(_recipe(recipe), str(root))
    library = library_of(run)
    if by != "model":
        return library.ask(text, features, images, split, cast("Way | None", by), cast("Ranking", ranking))
    from medsae_ray.engine.query_model import TextModel, with_model

    own = TextModel(url, model, key_variable) if url and model else None
    return with_model(
        run.recipe,
        own,
        lambda engine: library.ask_model(engine, text, features, images, split, cast("Ranking", ranking), exactly),
    )


def similar(
    recipe: "Recipe | str | PathLike[str]",
    root: str | PathLike[str],
    image: str | PathLike[str],
    *,
    k: int = 5,
    images: int = 10,
    split: str | None = None,
) -> "SimilarAnswer":
    """The images of a finished run that share an image's k strongest features, one of each patient.

    `image` is an id of the run, whose own patient is left out, or else a PNG, JPEG or DICOM file, which is encoded as
    the run's images were. Features that are active on every image do not count. An image's `similarity` is the cosine
    on the k features, or 1 / (1 + |difference|) of a single one. `reason` says why there are no images, or why k is
    smaller. Raises RecipeError for an image that is neither and for counts that are not from 1 to 1000, ImageError for
    a file that cannot be used, or ArtifactError if the run is not finished.
    """
    from medsae_ray.core.retrieval.similar import Similar
    from medsae_ray.finished import open_run

    _check(split, k=k, images=images)
    run = open_run(_recipe(recipe), str(root))
    library = Similar(run.artifacts)
    query = library.of_run(str(image))
    if query is None:
        from medsae_ray.service.image_encoder import file_query

        query = file_query(run, library, str(image))
    return library.ask(query, k, images, split)


def _check(split: str | None, **counts: int) -> None:
    from medsae_ray.core.artifacts.schema import SPLITS
    from medsae_ray.errors import RecipeError

    if split is not None and split not in SPLITS:
        raise RecipeError(f"split is {split!r}; it may be one of {', '.join(SPLITS)}, or None for all")
    for name, count in counts.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= MOST:
            raise RecipeError(f"{name} is {count!r}; it must be a whole number from 1 to {MOST}")


def load_encoder(kind: str, weights: str | None = None, **options: Any) -> "Encoder":
    """Load a frozen encoder: kind is "medclip-vit", "medclip-resnet", "biomedparse", "dinov3", "huggingface" or "onnx".

    Its `encode(images, batch_size=...)` takes one image or several, as paths, PIL images or arrays, and returns float32
    [n, D]; `embed_tokens(pixels)` returns the patches of images from `preprocess`. Raises EncoderError if weights and
    architecture do not fit.
    """
    from medsae_ray.core.encoders import load_encoder as load

    return load(kind, weights, **options)


def load_sae(uri: str | PathLike[str], *, format: str | None = None, device: str = "cpu") -> Sae:
    """Load the SAE of a finished `sae` artifact, or with `format` another library's checkpoint in the folder `uri`:
    "saelens", "dictionary_learning", "sparsify" or "sail".

    Raises ArtifactError if there is none, its files are damaged, or the checkpoint asks for something unsupported.
    """
    from medsae_ray.core.sae.checkpoint import sae_from_bytes

    if format is not None:
        from medsae_ray.core.artifacts.store import Store
        from medsae_ray.core.sae.formats.convert import read_checkpoint

        return Sae(read_checkpoint(format, Store(str(uri)))).to(device)
    artifact = open_artifact(uri)
    stored = sae_from_bytes(artifact.file("weights"), artifact.file("config"), artifact.store.uri)
    return Sae(stored, artifact).to(device)


def open_artifact(uri: str | PathLike[str]) -> "Artifact":
    """Open a finished artifact: `.schema`, `.record`, `.table()`, `.part(i)`. Raises ArtifactError if it is not
    finished."""
    from medsae_ray.core.artifacts.artifact import open_artifact as open_

    return open_(str(uri))
