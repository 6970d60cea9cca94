"""What the pretended GPU itself allows, refuses and counts, as CUDA would."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.support.pretended_cuda import WAITS, OnCuda, held, pretended_cuda

WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "bool": lambda x: bool(x.any()),
    "float": lambda x: float(x[0]),
    "tolist": lambda x: x.tolist(),
    "nonzero": lambda x: x.nonzero(),
    "a mask": lambda x: x[x > 0],
    "a mask that is assigned": lambda x: x.index_put_((x > 0,), x[:1].expand(2)),
    "an index on the CPU": lambda x: x[torch.tensor([0, 1])],
    "an upload": lambda x: torch.ones(2).to("cuda"),
    "a list": lambda x: torch.tensor([1.0], device="cuda"),
    "a list like it": lambda x: x.new_tensor([1.0]),
    "a download": lambda x: x.cpu(),
    "equal": lambda x: torch.equal(x, x),
    "repeats": lambda x: torch.repeat_interleave(torch.ones(3, dtype=torch.int64, device="cuda")),
}
SILENT: dict[str, Callable[[Tensor], object]] = {
    "a sum": lambda x: x + 1,
    "a product with a mask": lambda x: x * (x > 0),
    "the largest": lambda x: x.topk(2),
    "zeros": lambda x: torch.zeros(3, device=x.device),
    "its place": lambda x: x.to("cuda"),
    "its dtype": lambda x: x.to(torch.bfloat16),
    "an index": lambda x: x[torch.arange(2, device="cuda")],
    "an upload that is not waited for": lambda x: x.copy_(torch.ones(3), non_blocking=True),
    "a gradient": lambda x: x.detach().requires_grad_().square().sum().backward(),
}
REFUSED: dict[str, Callable[[Tensor], object]] = {
    "a sum": lambda x: x + torch.ones(3),
    "a list of both": lambda x: torch.stack([x.sum(), torch.tensor(1.0)]),
    "a product": lambda x: x @ torch.ones(3),
    "an index of a CPU tensor": lambda x: torch.ones(3)[torch.arange(2, device="cuda")],
    "the memory of a result": lambda x: torch.add(x, x, out=torch.empty(3)),
}


def on_gpu() -> Tensor:
    return torch.tensor([1.0, -1.0, 2.0]).to("cuda")


@pytest.mark.parametrize("call", WAITING)
def test_a_wait_is_counted(call: str) -> None:
    with pretended_cuda():
        x = on_gpu()
        WAITS.clear()
        WAITING[call](x)
    assert WAITS.total() == 1, WAITS


@pytest.mark.parametrize("call", SILENT)
def test_what_does_not_wait_is_not_counted(call: str) -> None:
    with pretended_cuda():
        x = on_gpu()
        WAITS.clear()
        SILENT[call](x)
    assert not WAITS


@pytest.mark.parametrize("call", REFUSED)
def test_tensors_of_both_devices_are_refused(call: str) -> None:
    with pretended_cuda(), pytest.raises(RuntimeError, match="on the CPU and others on cuda:0"):
        REFUSED[call](on_gpu())


def test_it_says_cuda_and_has_the_numbers_of_the_cpu() -> None:
    with pretended_cuda():
        x = on_gpu()
        x[0] = 5
        y = x * torch.tensor(2.0)
        assert x.device == torch.device("cuda:0") and x.is_cuda and torch.zeros(1).device.type == "cpu"
    assert isinstance(y, OnCuda) and held(y).tolist() == [10, -2, 4]
    with pytest.raises(RuntimeError, match="numpy"):
        x.numpy()
