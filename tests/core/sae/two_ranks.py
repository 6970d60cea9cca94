"""Two processes that train one SAE from files over gloo; a module of its own, so that both can import it."""

from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import EpochLog, fit
from medsae_ray.core.sae.training_table import EmbeddingTable


def train(rank: int, folder: Path, configs: list[SAEConfig]) -> None:
    """Of the tables train.npy and heldout.npy; writes [(weights, logs)] of every config to folder/<rank>.pt."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'store'}", rank=rank, world_size=2)
    results = []
    for config in configs:
        logs: list[EpochLog] = []
        sae = fit(
            config,
            EmbeddingTable.open(folder / "train.npy"),
            EmbeddingTable.open(folder / "heldout.npy"),
            rank=rank,
            world=2,
            wrap=DistributedDataParallel,
            on_epoch=lambda log, _, logs=logs: logs.append(log),
        )
        results.append((sae.state_dict(), [tuple(log) for log in logs]))
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()
