"""Ranks of one training run as threads of this process, each on the pretended GPU; as nccl, they refuse CPU tensors."""

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.support.pretended_cuda import OnCuda, pretended_cuda

Result = TypeVar("Result")


class Ranks:
    """So many threads that exchange tensors."""

    def __init__(self, world: int) -> None:
        self.world = world
        self.mine = threading.local()
        self.barrier = threading.Barrier(world, timeout=60)
        self.sent: list[Tensor] = [torch.empty(0)] * world

    def exchange(self, tensor: Tensor) -> list[Tensor]:
        """Give a tensor to all ranks, and return the numbers of theirs."""
        if not isinstance(tensor, OnCuda):
            raise RuntimeError(f"nccl: a tensor {list(tensor.shape)} is on the CPU")
        self.sent[self.mine.rank] = tensor.held.clone()
        self.barrier.wait()
        got = list(self.sent)
        self.barrier.wait()
        return got

    def all_reduce(self, tensor: Tensor, op: Any = dist.ReduceOp.SUM) -> None:
        parts = torch.stack(self.exchange(tensor))
        tensor.copy_(OnCuda(parts.sum(0) if op == dist.ReduceOp.SUM else parts.amin(0)))

    def broadcast(self, tensor: Tensor, source: int) -> None:
        tensor.copy_(OnCuda(self.exchange(tensor)[source]))

    def all_gather(self, parts: list[Tensor], tensor: Tensor) -> None:
        for part, sent in zip(parts, self.exchange(tensor), strict=True):
            part.copy_(OnCuda(sent))

    def average(self, optimiser: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        """Replace gradients by their mean over ranks, as DistributedDataParallel does."""
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self.all_reduce(parameter.grad)
                    parameter.grad.div_(self.world)

    def run(self, train: Callable[[int], Result], monkeypatch: pytest.MonkeyPatch) -> list[Result]:
        """Call `train(rank)` for every rank at the same time; raises the first rank's error."""
        replaced = {name: getattr(self, name) for name in ("all_reduce", "broadcast", "all_gather")}
        replaced |= {"is_initialized": lambda: True, "get_world_size": lambda: self.world}
        for name, value in (replaced | {"get_rank": lambda: self.mine.rank}).items():
            monkeypatch.setattr(dist, name, value)
        hook = register_optimizer_step_pre_hook(self.average)
        found: dict[int, Any] = {}

        def one(rank: int) -> None:
            self.mine.rank = rank
            try:
                with pretended_cuda():
                    found[rank] = train(rank)
            except BaseException as error:
                found.setdefault(-1, error)
                self.barrier.abort()

        threads = [threading.Thread(target=one, args=(rank,)) for rank in range(self.world)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        hook.remove()
        if -1 in found:
            raise found[-1]
        return [found[rank] for rank in range(self.world)]


class Wrapped(nn.Module):
    """The module on the GPU, under another name: its gradients are averaged before the optimiser's step."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to("cuda")

    def forward(self, *args: Any) -> Any:
        return self.module(*args)
