"""Matrix products in float32, or in bfloat16 with float32 results.

Legend: sizes as in model.py.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor

Dtype = torch.dtype | None
"""The dtype to which a product's factors are rounded; None leaves them unchanged."""
_ROWS = 256
"""The rows of a product that are converted at once."""


def product(a: Tensor, b: Tensor, low: Dtype = None) -> Tensor:
    """Return a b, in the dtype of `a`."""
    if low is None:
        return a @ b
    if a.device.type == "cuda":
        return torch.mm(a.to(low), b.to(low), out_dtype=a.dtype)
    return (a.to(low) @ b.to(low)).to(a.dtype)


def uses_memory(device: torch.device, low: Dtype) -> bool:
    """Whether `product_into` writes into memory that it is given."""
    return low is None or device.type != "cuda"


def product_into(out: Tensor | None, a: Tensor, b: Tensor, bias: Tensor, low: Dtype = None) -> Tensor:
    """Return a b + bias, in the memory of `out` if that saves time; see `uses_memory`."""
    if low is None:
        return torch.addmm(bias, a, b, out=out)
    if out is None or not uses_memory(a.device, low):
        return product(a, b, low).add_(bias)
    b = b.to(low)
    for rows, part in zip(out.split(_ROWS), a.to(low).split(_ROWS), strict=True):
        # Few enough rows to stay in the cache. An addition of mixed types would be ten times slower than both.
        rows.copy_(part @ b).add_(bias)
    return out


def seconds_of(x_BD: Tensor, W_DM: Tensor, low: Dtype) -> float:
    """Return the shortest of three products, after one that warms up."""
    best = float("inf")
    for attempt in range(4):
        _wait(x_BD.device)
        started = time.perf_counter()
        product(x_BD, W_DM, low)
        _wait(x_BD.device)
        best = min(best, time.perf_counter() - started) if attempt else best
    return best


def bfloat16_pays(
    rows: int,
    d_in: int,
    width: int,
    device: torch.device,
    seconds: Callable[[Tensor, Tensor, Dtype], float] = seconds_of,
) -> bool:
    """Whether a batch's product is at least 1.5 times as fast in bfloat16 on this device, rounding included.

    Some processors emulate bfloat16 and are much slower in it, so the question is put to the hardware.
    """
    x_BD, W_DM = torch.ones(rows, d_in, device=device), torch.ones(d_in, width, device=device)
    return seconds(x_BD, W_DM, None) > 1.5 * seconds(x_BD, W_DM, torch.bfloat16)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
