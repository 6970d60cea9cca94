"""The vision-language model of a run: its identity, its place, and its start with progress."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from functools import lru_cache
from pathlib import Path

from PIL import Image
from rich.console import Console

from medsae_ray.cluster.demands import hosted
from medsae_ray.cluster.joining import cluster_address
from medsae_ray.cluster.waiting import waiting
from medsae_ray.config import Naming, Recipe, Vlm
from medsae_ray.core.naming.distinct_images import SHOWN
from medsae_ray.core.naming.engine import Engine, EngineSettings, model_identity
from medsae_ray.core.naming.model_limits import LONGEST, limits_of
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.core.naming.pictures import picture
from medsae_ray.core.naming.prompts import question
from medsae_ray.errors import RecipeError
from medsae_ray.names import by_name

BUILTIN = {"builtin:phantom-vlm": Path(__file__).parents[1] / "core" / "phantom" / "weights" / "vlm"}


def model_of(vlm: Vlm) -> str:
    """Resolve `how.vlm.model` to a folder or Hugging Face id."""
    if not vlm.model.startswith("builtin:"):
        return vlm.model
    if vlm.model not in BUILTIN:
        raise RecipeError(
            f"how.vlm.model is {vlm.model!r}; the models that come with the package: {', '.join(BUILTIN)}"
        )
    return str(BUILTIN[vlm.model])


def vlm_of(recipe: Recipe) -> Vlm:
    """Return the model's settings in a recipe with what.naming: a recipe has both, or neither."""
    assert recipe.how.vlm is not None, "the recipe was checked"
    return recipe.how.vlm


def naming_of(recipe: Recipe) -> Naming:
    """Return the settings of naming, in a part of a naming run."""
    assert recipe.what.naming is not None, "the recipe was checked"
    return recipe.what.naming


def most_images(naming: Naming) -> int:
    """Return the most images of one request."""
    return max(naming.positives + naming.contrasts, SHOWN if naming.judge else 0)


def settings_of(recipe: Recipe) -> EngineSettings:
    """Translate the recipe's keys of the engine to the engine's own settings.

    Raises RecipeError if the model's config.json, as far as it is on this machine, does not allow them.
    """
    vlm, naming = vlm_of(recipe), naming_of(recipe)
    return by_name(
        EngineSettings,
        vlm,
        model=model_of(vlm),
        max_model_len=length_of(recipe),
        max_images=most_images(naming),
        max_ongoing=2 * vlm.in_flight,
        metrics=bool(cluster_address(recipe.how)),
    )


def length_of(recipe: Recipe) -> int | None:
    """Return the number of tokens of a prompt and its answer; None if neither the recipe nor a file on this machine
    gives it. RecipeError as `settings_of`."""
    vlm, naming = vlm_of(recipe), naming_of(recipe)
    limits = limits_of(model_of(vlm), vlm.revision)
    if vlm.max_model_len and limits.longest and vlm.max_model_len > limits.longest:
        raise RecipeError(
            f"how.vlm.max_model_len is {vlm.max_model_len}, and {vlm.model} takes at most {limits.longest} tokens by "
            f"its config.json: set {limits.longest} or less, or leave it out"
        )
    length = vlm.max_model_len or (limits.length and min(limits.length, LONGEST))
    images = most_images(naming)
    if limits.per_image and images * limits.per_image >= (length or LONGEST):
        raise RecipeError(
            f"what.naming shows the model {images} images of {limits.per_image} tokens each, and {vlm.model} has room "
            f"for {length or LONGEST} tokens of a prompt and its answer: lower what.naming.positives and "
            "what.naming.contrasts, or raise how.vlm.max_model_len"
        )
    return length


def check_engine(recipe: Recipe, console: Console) -> None:
    """Check the run's engine before anything is computed: RecipeError if it cannot work with the recipe, and a line
    if the model is shorter than the default."""
    vlm = recipe.how.vlm
    if recipe.what.naming is None or vlm is None or vlm.url:
        return
    length = length_of(recipe)
    if vlm.max_model_len is None and length and length < LONGEST:
        console.print(f"how.vlm.max_model_len is {length}, all that {vlm.model} has (the default is {LONGEST})")


def identity_of(recipe: Recipe) -> str:
    """Return model and revision or content, which answers depend on. No engine need run for it."""
    vlm = vlm_of(recipe)
    if vlm.url:
        return _identity_at(vlm.url, vlm.model, vlm.key_variable)
    return _identity_here(model_of(vlm), vlm.revision)


@lru_cache
def _identity_here(model: str, revision: str | None) -> str:
    return model_identity(model, revision)


@lru_cache
def _identity_at(url: str, model: str, key_variable: str | None) -> str:
    async def ask() -> str:
        async with OpenAiEngine(url, model, key_variable) as engine:
            return engine.identity

    return asyncio.run(ask())


@contextlib.asynccontextmanager
async def session(recipe: Recipe, hosted_here: Callable[[], Engine]) -> AsyncIterator[Engine]:
    """Open the engine for one asyncio loop: a connection to the recipe's URL, or the run's own engine on the cluster.

    A server is first asked one question on a blank image: one without log-probabilities is refused before it is paid
    for names that it cannot test.
    """
    vlm = vlm_of(recipe)
    if vlm.url:
        async with OpenAiEngine(vlm.url, vlm.model, vlm.key_variable, connections=vlm.in_flight) as engine:
            await engine.ask(picture(Image.new("L", (224, 224), 128), 224), [question("anything")])
            yield engine
    else:
        yield await asyncio.to_thread(hosted_here)


@contextlib.contextmanager
def cluster_engine(recipe: Recipe, starting: Callable[[str], None], say: Callable[[str], None]) -> Iterator[Engine]:
    """Provide the engine on the joined cluster for the length of the block. `starting` gets the progress of its
    start, and `say` messages about waiting and losses."""
    # Serve takes seconds to import, and most commands need none of it.
    from medsae_ray.engine.client import start_engine

    vlm = vlm_of(recipe)
    with (
        waiting(say, hosted(vlm)),
        start_engine(
            settings_of(recipe),
            starting,
            identity_of(recipe),
            who=f"the run of {recipe.name}",
            idle_s=vlm.idle_s,
            on_loss=say,
        ) as engine,
    ):
        yield engine
