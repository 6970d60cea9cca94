"""The sections of gpu_check.py on SAEs. They need torch, numpy, pyarrow and safetensors.

Legend: see medsae_ray/core/sae/model.py.
"""

import json
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_rows import DEVICE, REHEARSED, NotChecked, Row, at_most, equal, tried
from sae_peers import Job, environment, planted
from torch import Tensor

from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import fit
from medsae_ray.core.sae.matmul import product
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.sparse_support import Pairs
from medsae_ray.core.sae.training import EpochLog, State

D, M = 64, 256
LEVELS = {"architecture": "matryoshka", "levels": [64, 128, 256]}
PER_LEVEL = LEVELS | {"selection": "per_level", "ks": [2, 3, 4]}
CONFIGS: dict[str, dict[str, Any]] = {
    "relu_l1": {"architecture": "relu_l1", "l1": 1.0},
    "topk": {"architecture": "topk", "k": 4},
    "topk, reset features": {"architecture": "topk", "k": 1, "init": "random", "dead_after_epochs": 1},
    "batch_topk": {"architecture": "batch_topk", "k": 4},
    "jumprelu": {"architecture": "jumprelu", "l0": 0.3, "bandwidth": 0.5},
    "gated": {"architecture": "gated", "l1": 1.0},
    "matryoshka": LEVELS | {"k": 4},
    "matryoshka, per level": PER_LEVEL,
    "SAIL": PER_LEVEL | {"compat": "sail", "normalisation": "l2"},
}
FVU = {"float32": 0.005, "bfloat16": 0.02}
"""How far FVU on the GPU may be from the CPU's."""
WEIGHTS = 1e-5
"""How far weights after a resumed training may be from those without an interruption, largest over largest."""


def there() -> torch.device:
    """Return the device to check. NotChecked if torch does not find it."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        raise NotChecked(f"torch {torch.__version__} finds no GPU: a build for CPUs, or a driver too old for it")
    return torch.device(DEVICE)


def config(name: str, precision: str = "float32") -> SAEConfig:
    """Return the settings of an SAE for a few thousand rows."""
    usual = {"d_in": D, "width": M, "normalisation": "centre", "whiten": None, "init": None, "precision": precision}
    size = {"epochs": 4, "batch_size": 512, "lr": 1e-3, "seed": 0}
    return SAEConfig.from_dict(usual | size | CONFIGS[name])


def rows() -> tuple[Tensor, Tensor]:
    """Return training and held-out rows, mixtures of known atoms."""
    x_ND, _ = planted(4608, D, M // 4, 4, seed=0)
    x = torch.from_numpy(x_ND).float()
    return x[:4096], x[4096:]


def kernels() -> list[Row]:
    """Compare operations that training takes from torch, as it calls them, with float64 or with the CPU."""
    device, generator = there(), torch.Generator().manual_seed(0)
    a, b = torch.randn(256, 128, generator=generator), torch.randn(128, 512, generator=generator)
    exact = a.bfloat16().double() @ b.bfloat16().double()
    found = product(a.to(device), b.to(device), torch.bfloat16).cpu().double()
    bound = 1e-2 if REHEARSED else 1e-5
    checks = [at_most("product in bfloat16 with float32 results", _apart(found, exact), bound)]
    names = ("decoded rows", "gradient of codes", "gradient of the decoder", "sums per feature")
    pairs = zip(names, _lists(device), _lists(torch.device("cpu")), strict=True)
    checks += [at_most(f"lists of entries: {name}", _apart(one, other), 1e-5) for name, one, other in pairs]
    return [*checks, at_most("fused Adam", _apart(_adam(device), _adam(torch.device("cpu"))), 1e-5)]


def _lists(device: torch.device) -> list[Tensor]:
    """Decode a list of entries, and go back: embedding_bag, its gradient of weights, and segment_reduce."""
    generator = torch.Generator().manual_seed(1)
    rows_A = torch.randint(0, 64, (900,), generator=generator).sort().values.to(device)
    columns_A = torch.randint(0, M, (900,), generator=generator).to(device)
    z_A = torch.randn(900, generator=generator).to(device).requires_grad_()
    W_MD = torch.randn(M, D, generator=generator).to(device).requires_grad_()
    pairs = Pairs(rows_A, columns_A, z_A.detach(), (64, M))
    x_BD = pairs.decode(z_A, W_MD)
    x_BD.square().sum().backward()
    assert z_A.grad is not None
    assert W_MD.grad is not None
    return [value.detach().cpu() for value in (x_BD, z_A.grad, W_MD.grad, pairs.per_feature(z_A.detach()))]


def _adam(device: torch.device) -> Tensor:
    weight = torch.linspace(-1, 1, 64).to(device).requires_grad_()
    optimiser = torch.optim.Adam([weight], lr=0.1, fused=True)
    for _ in range(3):
        optimiser.zero_grad()
        weight.square().sum().backward()
        optimiser.step()
    return weight.detach().cpu()


def _apart(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference over the largest number."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def fitted(chosen: SAEConfig, device: torch.device, resume: State | None = None) -> tuple[SAE, list[EpochLog], State]:
    """Train; return the SAE, its logs, and the state after half of the epochs."""
    logs: list[EpochLog] = []
    states: list[State] = []

    def note(log: EpochLog, state: Callable[[], State]) -> None:
        logs.append(log)
        if log.epoch == chosen.epochs // 2:
            states.append(state())

    sae = fit(chosen, *rows(), wrap=lambda made: made.to(device), on_epoch=note, resume=resume)
    return sae, logs, states[0] if states else {}


def training() -> list[Row]:
    """Train each SAE on the GPU and on the CPU, and once more from the middle."""
    device, checks = there(), []
    for name in CONFIGS:
        for precision in FVU:
            checks += tried(f"{name}, {precision}", partial(_trained, name, precision, device))
    return checks


def _trained(name: str, precision: str, device: torch.device) -> list[Row]:
    chosen, what = config(name, precision), f"{name}, {precision}"
    sae, logs, state = fitted(chosen, device)
    _, wanted, _ = fitted(chosen, torch.device("cpu"))
    checks = [at_most(f"{what}: difference of FVU", abs(logs[-1].fvu - wanted[-1].fvu), FVU[precision])]
    again, _, _ = fitted(chosen, device, state)
    apart = max(_apart(again.state_dict()[key].cpu(), value.cpu()) for key, value in _weights(sae).items())
    checks.append(at_most(f"{what}: weights after a resume", apart, WEIGHTS))
    if "reset" in name:
        dead = logs[0].dead_share
        checks.append(Row(f"{what}: dead share in epoch 1", f"{dead:.3f}", "above 0", dead > 0))
    return checks


def _weights(sae: SAE) -> dict[str, Tensor]:
    return {name: value for name, value in sae.state_dict().items() if value.ndim and bool(value.any())}


def waits() -> list[Row]:
    """Count what torch itself reports as a wait in three training steps."""
    from sae_parts import training_of

    if there().type != "cuda":
        raise NotChecked("torch reports waits on CUDA alone")
    x_ND, checks = rows()[0].to(DEVICE), []
    for name in ("relu_l1", "topk", "batch_topk", "jumprelu", "gated", "matryoshka"):
        job = Job("ours", name, M, 4, 512, 4, precision="bfloat16", device=DEVICE)
        trained = training_of(job, x_ND)
        order = torch.arange(512, device=DEVICE)
        trained._step(x_ND[order], order[:0], 0)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            for step in range(3):
                trained._step(x_ND[order], order[:0], step)
            torch.cuda.set_sync_debug_mode("default")
        checks.append(equal(f"{name}: waits in three steps", sum("synchroniz" in str(w.message) for w in said), 0))
    return checks


def ranks() -> list[Row]:
    """Train on two GPUs, each a process, and compare FVU with that of one."""
    from torch.multiprocessing.spawn import spawn

    there()
    checks = []
    for name in ("relu_l1", "batch_topk"):
        with tempfile.TemporaryDirectory() as folder:
            spawn(_rank, (folder, name), nprocs=2)
            first, second = (torch.load(f"{folder}/{rank}.pt") for rank in (0, 1))
        _, logs, _ = fitted(config(name), torch.device(DEVICE))
        same = all(torch.equal(first["weights"][key], second["weights"][key]) for key in first["weights"])
        checks.append(equal(f"{name}: both ranks have the same weights", same, True))
        apart = abs(first["fvu"] - logs[-1].fvu)
        checks.append(at_most(f"{name}: difference of FVU from one GPU's", apart, FVU["float32"]))
    return checks


def _rank(rank: int, folder: str, name: str) -> None:
    import torch.distributed as dist
    from torch.nn.parallel import DistributedDataParallel

    device = torch.device("cpu") if REHEARSED else torch.device("cuda", rank)
    if not REHEARSED:
        torch.cuda.set_device(device)
    dist.init_process_group(
        "gloo" if REHEARSED else "nccl", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    logs: list[EpochLog] = []
    ids = None if REHEARSED else [rank]
    sae = fit(
        config(name),
        *rows(),
        rank=rank,
        world=2,
        wrap=lambda made: DistributedDataParallel(made.to(device), device_ids=ids),
        on_epoch=lambda log, _: logs.append(log),
    )
    weights = {key: value.cpu() for key, value in sae.state_dict().items()}
    torch.save({"weights": weights, "fvu": logs[-1].fvu}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def throughput() -> list[Row]:
    """Run sae_throughput.py in both precisions; shares are of the encoder's product in bfloat16, measured beside it."""
    there()
    half, full = (_throughput(precision) for precision in ("bfloat16", "float32"))
    ceiling = max(of["ours"]["step"]["ceiling_gflops"] for of in half.values())
    found = [Row("encoder's product in bfloat16, float32 results", f"{ceiling / 1e3:.1f} TFLOP/s")]
    for precision, measured in (("bfloat16", half), ("float32", full)):
        for name, libraries in measured.items():
            figures, step = libraries["ours"], libraries["ours"]["step"]
            share = step["gflop"] / _BATCH * figures["samples_per_s"] / ceiling
            parts = ", ".join(f"{part} {ms}" for part, ms in step["ms"].items())
            text = f"{figures['samples_per_s']:,.0f} samples/s, {share:.1%} of it; {step['step_ms']} ms a step: {parts}"
            found.append(Row(f"{name}, {precision}", text))
    return found


_BATCH = 64 if REHEARSED else 4096


def _throughput(precision: str) -> dict[str, Any]:
    size = ("--d", "16", "--m", "64", "--k", "4", "--rounds", "1") if REHEARSED else ("--m", "16384", "--d", "1024")
    steps = ("--steps", "1" if REHEARSED else "50", "--batch", str(_BATCH), "--parts", "--libraries", "ours")
    every = ("relu_l1", "relu_l1_dense", "topk", "batch_topk", "jumprelu", "gated", "matryoshka")
    names = ("topk",) if REHEARSED else every
    script = Path(__file__).with_name("sae_throughput.py")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.json"
        call = [sys.executable, str(script), "--device", DEVICE, "--precision", precision, "--json", str(out)]
        threads = os.cpu_count() or 1
        subprocess.run([*call, *size, *steps, "--architectures", *names], env=environment(threads), check=True)
        measured: dict[str, Any] = json.loads(out.read_text())
    return measured
