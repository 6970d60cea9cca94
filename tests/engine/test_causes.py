"""What a replica says when it does not start, and the advice that goes with it."""

import re

import pytest

from medsae_ray.config import Naming, Vlm
from medsae_ray.engine.causes import CAUSES, explain
from medsae_ray.engine.vllm_options import bundles, engine_arguments
from tests.support.usual import engine_settings


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo", "accept the licence"),
        ("ModuleNotFoundError: No module named 'vllm'", "vLLM is not installed"),
        ("OSError: nobody/nothing is not a local folder and is not a valid model identifier", "no such model"),
        ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "download them first"),
        ("ValueError: To serve at least one request with max seq len (8192), 9 GiB KV cache is needed", "kv_cache_gb"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB", "lower how.vlm.gpu_memory"),
    ],
)
def test_a_failure_to_start_says_what_to_do_and_what_was_said(message: str, advice: str) -> None:
    said = explain(f"A replica failed to start with exception. Error:\nTraceback:\n  File x, line 1\n{message}\n")
    assert advice in said and message.rpartition(": ")[2] in said


def test_advice_speaks_of_keys_that_a_recipe_has() -> None:
    keys = [key for advice in CAUSES.values() for key in re.findall(r"\b(how\.vlm|what\.naming)\.(\w+)", advice)]
    known = {"how.vlm": Vlm.model_fields, "what.naming": Naming.model_fields}
    assert len(keys) > 8 and all(field in known[part] for part, field in keys)
    assert not any(field in advice for advice in CAUSES.values() for field in ("utilization", "max_num", "tensor_p"))


@pytest.mark.parametrize(("gpus", "ranks"), [(0, 1), (1, 1), (4, 4)])
def test_a_model_is_shared_by_all_gpus_of_its_replica(gpus: int, ranks: int) -> None:
    settings = engine_settings("a-model", gpus=gpus)
    assert engine_arguments(settings)["tensor_parallel_size"] == ranks
    assert sum(bundle.get("GPU", 0) for bundle in bundles(settings)) == gpus
