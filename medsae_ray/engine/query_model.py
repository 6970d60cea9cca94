"""The model that picks names for a query: the recipe's own, or any text model behind a URL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

from medsae_ray.cluster.joining import cluster
from medsae_ray.config import Recipe
from medsae_ray.core.naming.engine import Engine
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.engine.session import cluster_engine
from medsae_ray.errors import RecipeError

T = TypeVar("T")


class TextModel(NamedTuple):
    """A model of a server with OpenAI's chat API."""

    url: str
    model: str
    key_variable: str | None = None
    """The environment variable that holds the key."""


@contextlib.asynccontextmanager
async def query_model(recipe: Recipe, model: TextModel | None = None) -> AsyncIterator[Engine]:
    """Open `model`, or without one that of the recipe: behind its URL, or on the cluster for the length of the block.

    Raises RecipeError if the recipe names none, and EngineError if it cannot be reached or started.
    """
    vlm = recipe.how.vlm
    if model is None and vlm and vlm.url:
        model = TextModel(vlm.url, vlm.model, vlm.key_variable)
    if model is not None:
        async with OpenAiEngine(model.url, model.model, model.key_variable) as engine:
            yield engine
        return
    if vlm is None or recipe.what.naming is None:
        raise RecipeError("this recipe has no how.vlm to pick names with: give a model and its URL")
    with contextlib.ExitStack() as open_:
        await asyncio.to_thread(open_.enter_context, cluster(recipe.how))
        yield await asyncio.to_thread(open_.enter_context, cluster_engine(recipe, lambda text: None, lambda text: None))


def with_model(recipe: Recipe, model: TextModel | None, ask: Callable[[Engine], Awaitable[T]]) -> T:
    """Run `ask` with the model, in a thread of its own: a notebook has a running loop already."""

    async def asked() -> T:
        async with query_model(recipe, model) as engine:
            return await ask(engine)

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, asked()).result()
