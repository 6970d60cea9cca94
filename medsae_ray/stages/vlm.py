"""The vision-language model of a run: who it is, where it runs, and its start, shown as it goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from medsae_ray.config import Recipe, Vlm
from medsae_ray.core.naming.engine import Engine, EngineSettings, model_identity
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.errors import RecipeError

if TYPE_CHECKING:
    from medsae_ray.stages.run import Run

BUILTIN = {"builtin:phantom-vlm": Path(__file__).parents[1] / "core" / "phantom" / "weights" / "vlm"}


def model_of(vlm: Vlm) -> str:
    """The folder or Hugging Face id that `how.vlm.model` means."""
    if not vlm.model.startswith("builtin:"):
        return vlm.model
    if vlm.model not in BUILTIN:
        raise RecipeError(
            f"how.vlm.model is {vlm.model!r}; the models that come with the package: {', '.join(BUILTIN)}"
        )
    return str(BUILTIN[vlm.model])


def settings_of(recipe: Recipe) -> EngineSettings:
    """What the recipe says of the engine, in the engine's own terms."""
    vlm, naming = recipe.how.vlm, recipe.what.naming
    assert vlm is not None and naming is not None, "the recipe was checked for both"
    return EngineSettings(
        model=model_of(vlm),
        revision=vlm.revision,
        dtype=vlm.dtype,
        max_model_len=vlm.max_model_len,
        max_images=naming.positives + naming.contrasts,
        max_num_seqs=vlm.max_seqs,
        kv_cache_gb=vlm.kv_cache_gb,
        gpu_memory_utilization=vlm.gpu_memory,
        gpus=vlm.gpus,
        cpus=vlm.cpus,
        model_impl=None if vlm.model_impl == "auto" else vlm.model_impl,
        enforce_eager=vlm.eager,
        replicas=vlm.replicas,
        start_timeout_s=vlm.start_timeout_s,
        max_ongoing=2 * vlm.in_flight,
    )


def identity_of(recipe: Recipe) -> str:
    """Model and revision or content: what answers depend on. An engine on the cluster need not run for it."""
    vlm = recipe.how.vlm
    assert vlm is not None, "the recipe was checked"
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
async def session(run: "Run") -> AsyncIterator[Engine]:
    """The engine, for one asyncio loop: a connection to the URL, or the run's engine on the cluster."""
    vlm = run.recipe.how.vlm
    assert vlm is not None, "the recipe was checked"
    if vlm.url:
        async with OpenAiEngine(vlm.url, vlm.model, vlm.key_variable, connections=vlm.in_flight) as engine:
            yield engine
    else:
        yield await asyncio.to_thread(run.engine)


@contextlib.contextmanager
def cluster_engine(run: "Run") -> Iterator[Engine]:
    """The engine on the cluster that this process joins, for the length of the block."""
    # Serve takes seconds to import, and most commands need none of it.
    from medsae_ray.stages.engine import start_engine

    run.connect()
    with (
        run.bar("engine", None) as bar,
        start_engine(settings_of(run.recipe), bar.say, identity_of(run.recipe)) as engine,
    ):
        bar.close()
        yield engine
