"""The processes that train one model together, and their communication."""

from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from medsae_ray.errors import RecipeError


class Ranks(NamedTuple):
    """A process among `world` that share one training run. Alone by default, it never communicates, even if
    torch.distributed is initialised for another purpose (a sweep that trains one model per worker)."""

    rank: int = 0
    world: int = 1

    def check(self) -> None:
        """Raise RecipeError unless torch.distributed has this rank and world."""
        if self.world == 1 and self.rank == 0:
            return
        if not 0 <= self.rank < self.world:
            raise RecipeError(f"rank {self.rank} is not one of {self.world} ranks")
        found = (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else None
        if found != (self.rank, self.world):
            state = "not initialised" if found is None else f"rank {found[0]} of {found[1]}"
            raise RecipeError(f"rank {self.rank} of {self.world} was asked for, but torch.distributed is {state}")

    def sum(self, values: Tensor) -> Tensor:
        """Return the sum over ranks, on every rank."""
        if self.world == 1:
            return values
        total = values.clone()
        dist.all_reduce(total)
        return total

    def least(self, values: Tensor) -> Tensor:
        """Return the smallest over ranks, on every rank."""
        if self.world == 1:
            return values
        least = values.clone()
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return least

    def first(self, values: Tensor) -> Tensor:
        """Return the values of rank 0, on every rank."""
        if self.world > 1:
            values = values.contiguous()
            dist.broadcast(values, 0)
        return values

    def any(self, flags: Tensor) -> Tensor:
        """Return True where some rank has True."""
        return self.sum(flags.int()) > 0

    def gather(self, values: Tensor) -> Tensor:
        """Return the values [n] of all ranks [world * n], in rank order; n is the same on every rank."""
        if self.world == 1:
            return values
        parts = [torch.empty_like(values) for _ in range(self.world)]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)
