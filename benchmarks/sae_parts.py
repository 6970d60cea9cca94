"""The time of one training step of ours by parts, and its matrix products compared with the device's peak.

Run by `sae_throughput.py --parts`, or by itself: python benchmarks/sae_parts.py JOB ROWS.npy THREADS, with a job of
sae_peers.py as JSON. Needs torch and numpy alone. Prints JSON:

ms                   of the parts below, each timed with the device idle before and after
  rows, encode       the batch is gathered; h = x W_enc + b
  selection          the choice of the entries to keep
  decode             their weighted sum of decoder rows
  losses             the rest of the forward pass
  backward           all gradients
  optimiser          projection, Adam, decoder rows back to unit norm
step_ms              a whole step without such pauses
gflop                of matrix products in a step; lists of entries are sums of rows and not counted
ceiling_gflops       gflop per second of the encoder's product alone, in the same precision: the fastest of ten
fraction_of_ceiling  gflop / ceiling_gflops / step: the share of a step that its products would need at that speed
"""

import json
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
from sae_peers import Job, our_config
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.matmul import product
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.training import Training, row_order
from medsae_ray.core.sae.training_table import EmbeddingTable

T = TypeVar("T")
STEPS = 5


class Parts:
    """Seconds by part."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)

    def timed(self, name: str, call: Callable[..., T]) -> Callable[..., T]:
        """The same function, with its time added to a part."""

        def run(*arguments: Any) -> T:
            started = now(self.device)
            result = call(*arguments)
            self.seconds[name] += now(self.device) - started
            return result

        return run


def now(device: torch.device) -> float:
    """The clock, once the device has done what it was asked to do."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def training_of(job: Job, x_ND: Tensor) -> Training:
    """As `fit` sets it up."""
    config = our_config(job, x_ND.shape[1])
    sae = build(config, Normalisation.fit(x_ND)).to(job.device)
    return Training(config, sae, sae.train(), EmbeddingTable(x_ND), EmbeddingTable(x_ND[:1]))


def one_step(training: Training, index_B: Tensor, parts: Parts) -> None:
    """A step as Training takes it, part by part."""
    sae, optimiser = training.sae, training.optimiser
    dead_J = index_B[:0]
    x_BD = parts.timed("rows", training.train.rows)(index_B, parts.device)
    optimiser.zero_grad()
    losses = parts.timed("forward", training.model)(x_BD, dead_J)
    parts.timed("backward", losses.total.backward)()
    for call in (sae.project_decoder_gradient, optimiser.step, sae.finish_step):
        parts.timed("optimiser", call)()


def split(training: Training, indices: list[Tensor]) -> dict[str, float]:
    """Mean milliseconds of the parts."""
    sae, parts = training.sae, Parts(training.device)
    inside = {"encode": "_h", "selection": "support", "decode": "decoded"}
    for name, method in inside.items():
        setattr(sae, method, parts.timed(name, getattr(sae, method)))
    for index_B in indices:
        one_step(training, index_B, parts)
    for method in inside.values():
        delattr(sae, method)
    parts.seconds["losses"] = parts.seconds.pop("forward") - sum(parts.seconds[name] for name in inside)
    order = ("rows", *inside, "losses", "backward", "optimiser")
    return {name: round(1e3 * parts.seconds[name] / len(indices), 3) for name in order}


def ceiling(training: Training, rows: int) -> float:
    """Floating-point operations per second of x W_enc."""
    W_DM = training.sae.W_enc.detach()
    x_BD = torch.randn(rows, len(W_DM), device=training.device)
    best = float("inf")
    for _ in range(10):
        started = now(training.device)
        product(x_BD, W_DM, training.sae.low)
        best = min(best, now(training.device) - started)
    return 2 * rows * W_DM.numel() / best


def measure(job: Job, x_ND: Tensor) -> dict[str, Any]:
    """Train a few steps and return the fields that the module describes."""
    training = training_of(job, x_ND)
    order = row_order(training.config, 0, len(x_ND)).to(x_ND.device)
    indices = [order[torch.arange(i, i + job.batch) % len(order)] for i in range(STEPS)]
    with FlopCounterMode(display=False) as counter:
        one_step(training, indices[0], Parts(training.device))
    started = now(training.device)
    for step, index_B in enumerate(indices):
        training._step(training.train.rows(index_B, training.device), index_B[:0], step)
    step_s = (now(training.device) - started) / STEPS
    flop, best = counter.get_total_flops(), ceiling(training, job.batch)
    return {
        "ms": split(training, indices),
        "step_ms": round(1e3 * step_s, 3),
        "gflop": round(flop / 1e9, 6),
        "ceiling_gflops": round(best / 1e9, 1),
        "fraction_of_ceiling": round(flop / best / step_s, 3),
    }


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[3]))
    wanted = Job(**json.loads(sys.argv[1]))
    print(json.dumps(measure(wanted, torch.from_numpy(np.load(sys.argv[2])).to(wanted.device))))
