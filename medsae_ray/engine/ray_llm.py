"""Parts put into Ray Serve LLM, so that a replica starts fewer processes, and one taken out of it.

They are made of names that Ray keeps to itself, as `medsae_ray/cluster/ray_private.py` is; this module is imported only
where vLLM is installed.
"""

from typing import Any

from ray.llm._internal.common.callbacks.base import CallbackBase
from ray.llm._internal.serve.engines.vllm.vllm_engine import VLLMEngine


class NoDownload(CallbackBase):
    """Leaves the download of a model to vLLM, instead of to one more process on each node."""

    async def on_before_node_init(self) -> None:
        """Turn off the initialisation of the node, which downloads the model."""
        self.ctx.run_init_node = False


class CpuEngine(VLLMEngine):
    """Computes in the engine's own process, instead of in one more for the only device of a CPU replica."""

    def _start_async_llm_engine(self, vllm_engine_args: Any, vllm_engine_config: Any, placement_group: Any) -> Any:
        if vllm_engine_config.parallel_config.world_size == 1:
            vllm_engine_config.parallel_config.distributed_executor_backend = "uni"
        return super()._start_async_llm_engine(vllm_engine_args, vllm_engine_config, placement_group)


def vllm_of(server: Any) -> Any:
    """Return vLLM's own engine behind a server, which answers without the server's HTTP layer."""
    return server.engine._engine_client
