"""The sections of benchmarks/gpu_check.py on SAEs, on the pretended GPU. Collected by tests/test_pretended_gpu.py."""

import gpu_saes
import pytest

from tests.support.pretended_cuda import pretended_cuda


def test_the_kernels_are_compared() -> None:
    with pretended_cuda():
        rows = gpu_saes.kernels()
    assert len(rows) == 6 and all(row.ok for row in rows), rows


def test_a_fit_and_its_resume_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "topk, reset features"
    monkeypatch.setattr(gpu_saes, "CONFIGS", {name: gpu_saes.CONFIGS[name]})
    monkeypatch.setattr(gpu_saes, "FVU", {"bfloat16": gpu_saes.FVU["bfloat16"]})
    with pretended_cuda():
        rows = gpu_saes.training()
    assert len(rows) == 3 and all(row.ok for row in rows), rows
