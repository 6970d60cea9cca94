"""Two processes that train one SAE over gloo; a module of its own, so that spawned processes can import it."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import EpochLog, fit
from tests.core.sae.planted import Planted


def train(rank: int, folder: Path, configs: list[SAEConfig], data: Planted) -> None:
    """Writes [(weights, logs)] of every config to folder/<rank>.pt."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    results = []
    for config in configs:
        logs: list[EpochLog] = []
        sae = fit(
            config,
            data.train_ND,
            data.heldout_ND,
            rank=rank,
            world=2,
            wrap=DistributedDataParallel,
            on_epoch=lambda log, _, logs=logs: logs.append(log),
        )
        results.append((sae.state_dict(), [tuple(log) for log in logs]))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()
