"""vLLM's CPU worker with the attention of Gemma 3: the tokens of an image attend to each other in both directions.

vLLM 0.29 supports this on GPUs only; on a CPU an image token sees no later one, and p(yes) differs from the model's
own. The kernel can be causal for one sequence and not for the next, so each sequence is passed as the segments before,
inside and after its images, which share its blocks of the cache.

Legend: B sequences, S segments.
"""

import os
import threading
import time
from dataclasses import replace
from typing import Any

import torch
from vllm.v1.attention.backends import cpu_attn
from vllm.v1.worker.cpu_worker import CPUWorker

from medsae_ray.engine.rewindable import RewindableGenerator
from medsae_ray.engine.vllm_options import Segment, segments


class ImageAwareBuilder(cpu_attn.CPUAttentionMetadataBuilder):
    """The builder of attention metadata by segments, for sequences with image tokens to compute."""

    def build(self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False) -> Any:
        """Build vLLM's own metadata if all attention is causal, else with each segment as a sequence of its own."""
        meta = common_attn_metadata
        images = meta.mm_req_doc_ranges or {}
        starts_B = meta.query_start_loc.tolist()
        ends_B = meta.seq_lens.tolist()
        cut = []
        for row in range(meta.num_reqs):
            new = starts_B[row + 1] - starts_B[row]
            cut += segments(row, ends_B[row] - new, ends_B[row], images.get(row, []))
        if all(part.causal for part in cut):
            return super().build(common_prefix_len, meta, fast_build)
        return super().build(common_prefix_len, _as_sequences(meta, cut), fast_build)


def _as_sequences(meta: Any, cut: list[Segment]) -> Any:
    """Return the metadata with every segment as a sequence of its own."""
    rows_S = torch.tensor([part.row for part in cut])
    tokens_S = torch.tensor([part.tokens for part in cut], dtype=torch.int32)
    starts = torch.zeros(len(cut) + 1, dtype=torch.int32)
    starts[1:] = tokens_S.cumsum(0)
    return replace(
        meta,
        num_reqs=len(cut),
        max_query_len=int(tokens_S.max()),
        query_start_loc=starts,
        query_start_loc_cpu=starts,
        seq_lens=torch.tensor([part.end for part in cut], dtype=torch.int32),
        block_table_tensor=meta.block_table_tensor[rows_S],
        causal=torch.tensor([part.causal for part in cut]),
    )


def end_with_parent() -> None:
    """End this process with its parent: vLLM's engine would outlive a killed replica and keep its memory."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class ImageAwareWorker(CPUWorker):
    """The worker named in the engine's arguments; vLLM makes one in each of its own processes."""

    def init_device(self) -> None:
        """Install builder and generator before vLLM sets up the device; the process ends when its parent does."""
        end_with_parent()
        torch.Generator = RewindableGenerator  # type: ignore[misc]
        cpu_attn.CPUAttentionBackend.get_builder_cls = staticmethod(lambda: ImageAwareBuilder)  # type: ignore[method-assign]
        super().init_device()  # type: ignore[no-untyped-call]
