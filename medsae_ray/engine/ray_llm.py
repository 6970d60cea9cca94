"""Replacements for parts of Ray Serve LLM that let a replica start fewer processes, and access to its engine.

They use private names of Ray, as `medsae_ray/cluster/ray_private.py` does; this module is imported only where vLLM is
installed.
"""

from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine


class NoDownload(CallbackBase):
    """A callback that leaves the download of a model to vLLM, instead of to one more process on each node."""

    async def on_before_node_init(self) -> None:
        """Turn off the initialisation of the node, which downloads the model."""
        self.ctx.run_init_node = False


class CpuEngine(VLLMEngine):
    """An engine that computes in its own process, instead of one more for the only device of a CPU replica."""

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        if vllm_engine_config.parallel_config.world_size == 1:
            vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)


def vllm_of(server: Any) -> Any:
    """Return vLLM's own engine behind a server, which answers without the server's HTTP layer."""
    return server.engine._engine_client
