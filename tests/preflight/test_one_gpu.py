"""Every packaged recipe on a cluster of one node with one GPU: placed, or refused at once by key and value."""

import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from medsae_ray.cluster.capacity import Capacity
from medsae_ray.cluster.packing import Node
from medsae_ray.cluster.placing import judged, no_growth
from medsae_ray.config import Recipe, load_recipe, packaged_recipes
from medsae_ray.core.artifacts.store import Store
from medsae_ray.engine import vllm_build
from medsae_ray.engine.session import settings_of
from medsae_ray.engine.vllm_options import engine_arguments
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import STAGES
from medsae_ray.preflight.needs import phases_of, share_problems
from medsae_ray.preflight.ready import ready
from medsae_ray.runtime.run import Run
from medsae_ray.service.deployment import phase_of

NODE = Capacity((Node("gpu", {"CPU": 8.0, "GPU": 1.0}),))
"""A g6.2xlarge of cluster.yaml, alone."""
TWO_GPUS = ["chexpert-medclip-medgemma-27b", "sail-paper"]
each = pytest.mark.parametrize("name", sorted(packaged_recipes()))


def problems(recipe: Recipe, *, serves: bool = False) -> list[str]:
    phases = [phase_of(recipe, recipe.how.vlm is not None)] if serves else phases_of(recipe, STAGES, [*STAGES])
    return [one.problem for one in judged(phases, NODE, no_growth) if one.problem]


def on_cpus(recipe: Recipe) -> Recipe:
    """The recipe with the changes that a refused service is told to make."""
    embed, encode = (pool.model_copy(update={"gpus": 0.0}) for pool in (recipe.how.embed, recipe.how.encode))
    return recipe.model_copy(update={"how": recipe.how.model_copy(update={"embed": embed, "encode": encode})})


@each
def test_a_run_is_placed_or_refused_by_key_and_value(name: str) -> None:
    recipe = load_recipe(name)
    assert not [*share_problems(recipe, STAGES)]
    found = problems(recipe)
    assert bool(found) == (name in TWO_GPUS)
    assert all(re.match(r"how\.(vlm\.gpus|embed\.actors|encode\.actors) is 2: ", problem) for problem in found)


@each
def test_a_service_is_placed_or_told_how_it_would_be(name: str) -> None:
    recipe = load_recipe(name)
    found = problems(recipe, serves=True)
    asks = recipe.how.vlm is not None and recipe.how.vlm.gpus > 0
    assert bool(found) == asks
    if name in TWO_GPUS:
        assert found[0].startswith("how.vlm.gpus is 2: ")
    elif asks:
        assert "{CPU: 0.1, GPU: 1} (how.embed.gpus)" in found[0] and "{CPU: 4, GPU: 1} (how.vlm.gpus)" in found[0]
        assert "--set how.embed.gpus=0 --set how.encode.gpus=0" in found[0]
        assert problems(on_cpus(recipe), serves=True) == []


def on_gpu(name: str) -> Recipe:
    recipe = load_recipe(name)
    assert recipe.how.vlm
    vlm = recipe.how.vlm.model_copy(update={"gpus": 1})
    return recipe.model_copy(update={"how": recipe.how.model_copy(update={"vlm": vlm})})


def test_the_packaged_model_goes_to_a_gpu_as_it_is() -> None:
    recipe = on_gpu("phantom")
    assert problems(recipe) == [] and problems(recipe, serves=True) == []
    arguments = engine_arguments(settings_of(recipe))
    assert arguments["dtype"] == "float32" and arguments["max_model_len"] == 2048
    assert not {"worker_cls", "kv_cache_memory_bytes", "block_size", "model_impl"} & set(arguments)


def test_the_default_run_with_a_vllm_for_gpus_is_refused_before_its_first_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(vllm_build, "_version", lambda name: "0.29.0" if name == "vllm" else None)
    start = time.monotonic()
    with (
        Run(load_recipe("phantom"), Store(str(tmp_path)), STAGES, Console(quiet=True)) as run,
        pytest.raises(RecipeError, match=r"how\.vlm\.gpus is 0: this machine has the vLLM for GPUs.* set how"),
    ):
        ready(run, "names")
    assert time.monotonic() - start < 20 and list(tmp_path.iterdir()) == []
