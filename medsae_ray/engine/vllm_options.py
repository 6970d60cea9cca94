"""The start of vLLM through Ray Serve LLM by a replica: its configuration, its messages, the causes of a failure."""

import asyncio
import contextlib
import math
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

from medsae_ray.cluster.demands import engine_bundles
from medsae_ray.cluster.ray_private import kv_put
from medsae_ray.core.naming.engine import EngineSettings
from medsae_ray.core.naming.model_limits import LONGEST, limits_of
from medsae_ray.engine.vllm_build import misfit
from medsae_ray.errors import EngineError

PHASE = b"medsae-engine-phase"
"""The key under which a starting replica publishes its phase; it cannot be called before it has started."""
GIB = 2**30
"""The number of bytes in the unit of vLLM's cache on a CPU; all other keys of a recipe are in GB (config/how.py)."""
CPU_BLOCK = 32
"""The tokens in a block of the key-value cache: the minimum for vLLM's attention on a CPU."""
PICTURES_GB = 0.5
"""GiB of pictures that vLLM keeps prepared. A run asks all questions about a picture together, and callers of the
service send most only once; vLLM's own 4 GiB would be filled by them and never given back."""
GPU_BATCH = 8192
"""The tokens of a step on a GPU. vLLM's own 2048 below 70 GiB of memory cut a prompt of 12 images into several."""


def report(phase: str) -> None:
    """Publish the replica's phase of starting in the cluster's key-value store."""
    kv_put(PHASE, phase.encode())


async def start_server(settings: EngineSettings, identity: str) -> tuple[Any, Any]:
    """Start Ray Serve LLM's server with the model loaded, and return it with its vLLM engine. Raises EngineError if the
    node's vLLM cannot work with so many GPUs."""
    if problem := misfit(settings.gpus):
        raise EngineError(f"how.vlm.gpus is {settings.gpus}: the engine's node {problem}")
    from ray.serve.llm import LLMConfig
    from ray.serve.llm.deployment import LLMServer

    from medsae_ray.engine.ray_llm import CpuEngine, vllm_of

    report("loading the model")
    server = LLMServer.sync_init(
        llm_config(settings, identity, LLMConfig), engine_cls=None if settings.gpus else CpuEngine
    )
    await server.start()
    return server, vllm_of(server)


def llm_config(settings: EngineSettings, identity: str, config: Any) -> Any:
    """Return Ray Serve LLM's configuration of `settings`; `config` is its class."""
    return config(
        model_loading_config={"model_id": identity, "model_source": settings.model},
        engine_kwargs=engine_arguments(settings) | {"enable_prompt_tokens_details": True},
        placement_group_config={"bundles": bundles(settings), "strategy": strategy(settings)},
        callback_config={"callback_class": "medsae_ray.engine.ray_llm.NoDownload"},
        log_engine_metrics=settings.metrics,
    )


def engine_arguments(settings: EngineSettings) -> dict[str, Any]:
    """Return vLLM's arguments, without the model."""
    arguments: dict[str, Any] = {
        "revision": settings.revision,
        "dtype": settings.dtype,
        "max_model_len": settings.max_model_len or _default_length(settings),
        # The size of the pictures for vLLM's warm-up; its default is 10,000 pixels, which takes 10 s.
        "limit_mm_per_prompt": {"image": {"count": settings.max_images, "width": 1024, "height": 1024}},
        "max_num_seqs": settings.max_seqs,
        "enforce_eager": settings.eager,
        "enable_prefix_caching": settings.prefix_caching,
        "scheduling_policy": "priority",
        "mm_processor_cache_gb": PICTURES_GB,
        # The tokens of an image attend to each other in both directions, so they must be computed together.
        "disable_chunked_mm_input": True,
        "tensor_parallel_size": max(1, settings.gpus),
        # No address is fetched for a caller: pictures are part of the request.
        "allowed_media_domains": ["nowhere.invalid"],
        # A small model may write spaces for ever where the grammar allows any. xgrammar without them still demands one
        # after each comma and colon, and lets control characters into strings; this backend does neither.
        "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
    }
    if settings.gpus:
        # vLLM refuses fewer tokens than requests.
        batch = max(GPU_BATCH, settings.max_seqs)
        arguments |= {"gpu_memory_utilization": settings.gpu_memory, "max_num_batched_tokens": batch}
        return arguments | ({} if settings.model_impl == "auto" else {"model_impl": settings.model_impl})
    return arguments | {
        "model_impl": "transformers" if settings.model_impl == "auto" else settings.model_impl,
        "block_size": CPU_BLOCK,
        "kv_cache_memory_bytes": int(settings.kv_cache_gb * GIB),
        "worker_cls": "medsae_ray.engine.gemma_on_cpu.ImageAwareWorker",
    }


def _default_length(settings: EngineSettings) -> int:
    """Return the default length; a model that was not on the run's machine is fetched here anyway."""
    return min(limits_of(settings.model, settings.revision, fetch=True).length or LONGEST, LONGEST)


def bundles(settings: EngineSettings) -> list[dict[str, float]]:
    """Return the reservation of a replica: one bundle per GPU, with the replica itself in the first, or its CPUs."""
    return engine_bundles(settings.cpus, settings.gpus)


def strategy(settings: EngineSettings) -> str:
    """Return Ray's placement of the bundles. A model split over several GPUs exchanges its layers' results for every
    token, for which a network between nodes is too slow."""
    return "STRICT_PACK" if settings.gpus > 1 else "PACK"


def environment(settings: EngineSettings) -> dict[str, str]:
    """Return the environment variables of a replica. Threads are not bound to cores, which Ray's other tasks use as
    well."""
    threads = str(max(1, math.ceil(settings.cpus)))
    # A warning of the grammar's compiler repeats the caller's whole schema.
    own = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_LOGGING_LEVEL": "ERROR", "LLGUIDANCE_LOG_LEVEL": "0"}
    if not settings.gpus:
        own |= {"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": "PASSIVE", "VLLM_CPU_OMP_THREADS_BIND": "nobind"}
        if settings.eager:
            own["TORCHDYNAMO_DISABLE"] = "1"  # vLLM's sampler would still compile one line of its own, for 20 s
    if Path(settings.model).is_dir():
        own["HF_HUB_OFFLINE"] = "1"
    return own | {name: os.environ[name] for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE") if name in os.environ}


class Log:
    """The output of this process and its children from now on. vLLM's own processes report only there why they
    failed."""

    def __init__(self) -> None:
        files = {os.readlink(f"/proc/self/fd/{number}") for number in (1, 2)} if Path("/proc/self/fd").exists() else ()
        self.sizes = {Path(name): Path(name).stat().st_size for name in files if Path(name).is_file()}

    def causes(self) -> str:
        """Return the last ten lines that name an error."""
        lines = []
        for path, size in self.sizes.items():
            with path.open("rb") as stream:
                stream.seek(size)
                lines += stream.read().decode(errors="replace").splitlines()
        return "\n".join([line for line in lines if re.search(r"\w(Error|Exception)\b.*: ", line)][-10:])


class Segment(NamedTuple):
    """A run of new tokens of one sequence."""

    row: int
    """The number of the sequence."""
    end: int
    """The position in the sequence after the last token, where the segment's view ends."""
    tokens: int
    causal: bool


def segments(row: int, start: int, end: int, images: list[tuple[int, int]]) -> list[Segment]:
    """Cut positions [start, end) of a sequence at its `images`, ranges of positions with both ends inside."""
    found, at = [], start
    for first, last in sorted(images):
        first, last = max(first, start), min(last + 1, end)
        if first >= last:
            continue
        if at < first:
            found.append(Segment(row, first, first - at, True))
        found.append(Segment(row, last, last - first, False))
        at = last
    return found + ([Segment(row, end, end - at, True)] if at < end or not found else [])


class Apart:
    """A lock that lets many common tasks run together, or many rare ones, but never both kinds at once.

    In one batch of vLLM 0.29, a request for the log-probabilities of given tokens takes those of the most likely tokens
    away from every other request (vllm/v1/sample/sampler.py, `forward`).
    """

    def __init__(self) -> None:
        self.change = asyncio.Condition()
        self.running = {"common": 0, "rare": 0}
        self.rare_waiting = 0

    @contextlib.asynccontextmanager
    async def common(self) -> AsyncIterator[None]:
        """Run the block with other common tasks, once no rare one runs or waits."""
        async with self.change:
            await self.change.wait_for(lambda: not self.running["rare"] and not self.rare_waiting)
            self.running["common"] += 1
        async with self._leaving("common"):
            yield

    @contextlib.asynccontextmanager
    async def rare(self) -> AsyncIterator[None]:
        """Run the block before common tasks that have not begun."""
        async with self.change:
            self.rare_waiting += 1
            try:
                await self.change.wait_for(lambda: not self.running["common"])
                self.running["rare"] += 1
            finally:
                self.rare_waiting -= 1
                self.change.notify_all()
        async with self._leaving("rare"):
            yield

    @contextlib.asynccontextmanager
    async def _leaving(self, kind: str) -> AsyncIterator[None]:
        try:
            yield
        finally:
            async with self.change:
                self.running[kind] -= 1
                self.change.notify_all()
