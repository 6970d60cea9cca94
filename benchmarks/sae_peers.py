"""One SAE trained by one library, in that library's own environment; for sae_throughput.py and sae_quality.py.

Needs torch and numpy, and only the requested one of the libraries. All get the same rows, normalised before (mean 0,
E||x||^2 = D), the same number of epochs, batch size, learning rate, warm-up, decay and inactive epochs until a feature
counts as dead; otherwise each trains by its own defaults.
"""

import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from medsae_ray.core.sae.config import SAEConfig

ROOT = Path(__file__).resolve().parents[1]
LIBRARIES = ("ours", "saelens", "dictionary_learning", "sparsify")
ARCHITECTURES = {
    "relu_l1": ("ours", "saelens", "dictionary_learning"),
    "topk": LIBRARIES,
    "batch_topk": ("ours", "saelens", "dictionary_learning"),
    "matryoshka": ("ours", "saelens", "dictionary_learning"),
    "jumprelu": ("ours", "saelens"),
    "gated": ("ours", "saelens", "dictionary_learning"),
}
"""Which library is asked for which architecture."""


@dataclass(frozen=True)
class Job:
    """What is trained."""

    library: str
    architecture: str
    m: int
    k: int
    batch: int
    epochs: int
    penalty: float = 2.0
    """relu_l1, gated: weight of the L1 norm against the squared error; jumprelu: of L0."""
    dead_after: int = 2
    """Epochs of silence."""
    sparse: bool = False
    """relu_l1: start with about k active features, as training ends, and not with half of them."""
    init: str | None = None
    """Where ours starts; None is its default."""
    start_l0: float | None = 64.0
    """relu_l1, jumprelu, gated: active features at first in ours; None: half of all."""
    lr: float = 1e-3
    seed: int = 0
    precision: str = "float32"
    device: str = "cpu"

    @property
    def levels(self) -> list[int]:
        """Of a Matryoshka SAE."""
        return sorted({max(1, self.m // part) for part in (16, 4, 2, 1)})


class Schedule(NamedTuple):
    """The same for all, in steps."""

    epoch: int
    total: int
    warmup: int
    decay: int

    @classmethod
    def of(cls, job: Job, rows: int) -> "Schedule":
        """Derive the schedule from a job: 5 % of all steps warm up, the last 30 % decay."""
        epoch = rows // job.batch
        total = epoch * job.epochs
        return cls(epoch, total, max(1, total // 20), max(1, total * 3 // 10))

    def factor(self, step: int) -> float:
        """Of the learning rate."""
        return min(1.0, (step + 1) / self.warmup, (self.total - step) / self.decay)


class Trained(NamedTuple):
    """What came out; both functions take and give float32 matrices."""

    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]
    atoms: Tensor
    """Decoder rows [m, D]."""
    threshold: Tensor | None = None
    """What an activation has to exceed at inference, the same for all features; may be written to."""


OnEpoch = Callable[[], None]
"""Called between epochs."""


def python(library: str) -> str | None:
    """The interpreter that has the library; None if it was not set up (`make bench-peers`)."""
    if library == "ours":
        return sys.executable
    folder = ROOT / ".peers" / library
    return str(folder / "bin" / "python") if (folder / ".done").exists() else None


def environment(threads: int) -> dict[str, str]:
    """For a worker: our package beside it, no network, threads that sleep while they wait."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
    offline = {"HF_HUB_OFFLINE": "1", "OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": str(ROOT)}
    return os.environ | dict.fromkeys(names, str(threads)) | offline


def train(job: Job, x_ND: Tensor, on_epoch: OnEpoch) -> Trained:
    """By the job's library, which has to be in this environment."""
    torch.manual_seed(job.seed)
    libraries = {"ours": ours, "saelens": saelens, "dictionary_learning": dictionary_learning, "sparsify": sparsify}
    return libraries[job.library](job, x_ND, on_epoch)


def batches(job: Job, x_ND: Tensor, on_epoch: OnEpoch) -> Iterator[Tensor]:
    """Epochs in random order; an incomplete last batch is left out."""
    generator = torch.Generator().manual_seed(job.seed)
    for epoch in range(job.epochs):
        if epoch:
            on_epoch()
        order = torch.randperm(len(x_ND), generator=generator).to(x_ND.device)
        for start in range(0, len(x_ND) - job.batch + 1, job.batch):
            yield x_ND[order[start : start + job.batch]]


def planted(n: int, d: int, atoms: int, active: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rows [n, d], unit atoms): each row has every atom with probability active / atoms, with a strength from 0.5 to
    1.5; all are off centre and have noise of a hundredth of their variance or so."""
    rng = np.random.default_rng(seed)
    atoms_AD = rng.standard_normal((atoms, d), dtype=np.float32)
    atoms_AD /= np.linalg.norm(atoms_AD, axis=1, keepdims=True)
    on_NA = rng.random((n, atoms), dtype=np.float32) < active / atoms
    x_ND = (on_NA * (0.5 + rng.random((n, atoms), dtype=np.float32))) @ atoms_AD
    noise = 0.1 * math.sqrt(active / d)
    return x_ND + 0.3 + noise * rng.standard_normal((n, d), dtype=np.float32), atoms_AD


@torch.no_grad()
def thin(job: Job, h_NM: Tensor, bias_M: Tensor) -> None:
    """Lower the biases so far that k of a row's pre-activations h stay above 0."""
    if job.sparse:
        bias_M -= h_NM.flatten().kthvalue(h_NM.numel() - job.k * len(h_NM)).values


def our_config(job: Job, d_in: int) -> "SAEConfig":
    """Make the configuration of our SAE that matches a job."""
    from medsae_ray.core.sae.config import SAEConfig

    # A sparse job gets its biases from `thin`.
    begin = {"start_l0": None if job.sparse else job.start_l0}
    own: dict[str, dict[str, Any]] = {
        "relu_l1": {"l1": job.penalty, **begin},
        "gated": {"l1": job.penalty, **begin},
        "jumprelu": {"l0": job.penalty, **begin},
        "matryoshka": {"k": job.k, "levels": job.levels},
    }
    return SAEConfig.from_dict(
        {
            "architecture": job.architecture,
            "d_in": d_in,
            "width": job.m,
            "batch_size": job.batch,
            "epochs": job.epochs,
            "dead_after_epochs": job.dead_after,
            "normalisation": "centre",
            "whiten": None,
            "init": "random" if job.sparse else job.init,
            "lr": job.lr,
            "seed": job.seed,
            "precision": job.precision,
            **own.get(job.architecture, {"k": job.k}),
        }
    )


def ours(job: Job, x_ND: Tensor, on_epoch: OnEpoch) -> Trained:
    """Train with this package."""
    from medsae_ray.core.sae.batch_topk import BatchTopK
    from medsae_ray.core.sae.fit import fit
    from medsae_ray.core.sae.model import SAE

    def wrap(sae: SAE) -> SAE:
        if job.sparse:
            assert sae.b_enc is not None
            thin(job, sae.pre_activations(sae.normalise(x_ND[:256].cpu())), sae.b_enc)
        return sae.to(job.device)

    # Nothing is decided by held-out rows, so one is enough.
    sae = fit(our_config(job, x_ND.shape[1]), x_ND, x_ND[:1], wrap=wrap, on_epoch=lambda log, state: on_epoch())
    return Trained(sae.encode, sae.decode, sae.W_dec.detach(), sae.threshold if isinstance(sae, BatchTopK) else None)


def saelens(job: Job, x_ND: Tensor, on_epoch: OnEpoch) -> Trained:
    """Train with SAELens."""
    from sae_lens import SAE, SAETrainer
    from sae_lens.config import LoggingConfig, SAETrainerConfig
    from sae_lens.registry import get_sae_training_class

    kinds = {"relu_l1": "standard", "batch_topk": "batchtopk", "matryoshka": "matryoshka_batchtopk"}
    penalties = {"relu_l1": "l1_coefficient", "gated": "l1_coefficient", "jumprelu": "l0_coefficient"}
    penalty = penalties.get(job.architecture)
    own: dict[str, Any] = {penalty: job.penalty} if penalty else {"k": job.k}
    if job.architecture == "matryoshka":
        own["matryoshka_widths"] = job.levels
    if job.architecture == "topk":
        # Its sparse tensors, the default, fail on a CPU.
        own["use_sparse_activations"] = job.device != "cpu"
    make, settings = get_sae_training_class(kinds.get(job.architecture, job.architecture))
    sae = make(settings(d_in=x_ND.shape[1], d_sae=job.m, dtype="float32", device=job.device, **own))
    if job.sparse:
        thin(job, x_ND[:256] @ sae.W_enc, sae.b_enc)
    plan = Schedule.of(job, len(x_ND))
    config = SAETrainerConfig(
        total_training_samples=job.batch * plan.total,
        train_batch_size_samples=job.batch,
        lr=job.lr,
        lr_end=job.lr / 10,
        lr_warm_up_steps=plan.warmup,
        lr_decay_steps=plan.decay,
        device=job.device,
        autocast=job.precision == "bfloat16",
        dead_feature_window=job.dead_after * plan.epoch,
        logger=LoggingConfig(log_to_wandb=False),
    )
    SAETrainer(cfg=config, sae=sae, data_provider=batches(job, x_ND, on_epoch), evaluator=None).fit()
    with tempfile.TemporaryDirectory() as folder:
        sae.save_inference_model(folder)
        found = SAE.load_from_disk(folder, device=job.device)
    one = job.architecture in ("batch_topk", "matryoshka")
    return Trained(found.encode, found.decode, found.W_dec.detach(), found.threshold.detach() if one else None)


def dictionary_learning(job: Job, x_ND: Tensor, on_epoch: OnEpoch) -> Trained:
    """Train with dictionary_learning."""
    from dictionary_learning.trainers import batch_top_k, gdm, matryoshka_batch_top_k, standard, top_k

    plan = Schedule.of(job, len(x_ND))
    own: dict[str, Any] = {"k": job.k, "threshold_beta": 0.99, "threshold_start_step": plan.total // 2}
    if job.architecture in ("relu_l1", "gated"):
        own = {"l1_penalty": job.penalty, "sparsity_warmup_steps": plan.warmup}
    if job.architecture == "matryoshka":
        edges = [0, *job.levels]
        own["group_fractions"] = [(high - low) / job.m for low, high in pairwise(edges)]
    make = {
        "relu_l1": standard.StandardTrainer,
        "gated": gdm.GatedSAETrainer,
        "topk": top_k.TopKTrainer,
        "batch_topk": batch_top_k.BatchTopKTrainer,
        "matryoshka": matryoshka_batch_top_k.MatryoshkaBatchTopKTrainer,
    }[job.architecture]
    trainer = make(
        steps=plan.total,
        activation_dim=x_ND.shape[1],
        dict_size=job.m,
        layer=0,
        lm_name="none",
        lr=job.lr,
        warmup_steps=plan.warmup,
        decay_start=plan.total - plan.decay,
        seed=job.seed,
        device=job.device,
        **own,
    )
    if job.sparse:
        thin(job, trainer.ae.encoder(x_ND[:256]), trainer.ae.encoder.bias)
    trainer.dead_feature_threshold = job.dead_after * len(x_ND)
    for step, x_BD in enumerate(batches(job, x_ND, on_epoch)):
        with torch.autocast(job.device, torch.bfloat16, enabled=job.precision == "bfloat16"):
            trainer.update(step, x_BD)
    sae = trainer.ae
    atoms = sae.W_dec if hasattr(sae, "W_dec") else sae.decoder.weight.T
    one = job.architecture in ("batch_topk", "matryoshka")
    return Trained(sae.encode, sae.decode, atoms.detach(), sae.threshold if one else None)


def sparsify(job: Job, x_ND: Tensor, on_epoch: OnEpoch) -> Trained:
    """Its SparseCoder with Adam, and its Trainer's loss and count of silent rows; the Trainer itself wants a language
    model."""
    if job.device == "cpu":
        sys.modules["triton"] = None  # type: ignore[assignment]  # its kernels want a GPU
    from sparsify import SparseCoder, SparseCoderConfig

    sae = SparseCoder(x_ND.shape[1], SparseCoderConfig(num_latents=job.m, k=job.k), device=job.device)
    optimiser = torch.optim.Adam(sae.parameters(), lr=job.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, Schedule.of(job, len(x_ND)).factor)
    silent_M = torch.zeros(job.m, dtype=torch.int64, device=job.device)
    for x_BD in batches(job, x_ND, on_epoch):
        with torch.autocast(job.device, torch.bfloat16, enabled=job.precision == "bfloat16"):
            out = sae(x_BD, dead_mask=silent_M > job.dead_after * len(x_ND))
        (out.fvu + out.auxk_loss / 32).backward()
        sae.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()
        schedule.step()
        sae.set_decoder_norm_to_unit_norm()
        silent_M += len(x_BD)
        silent_M[out.latent_indices.flatten()] = 0

    def encode(x: Tensor) -> Tensor:
        values, columns, _ = sae.encode(x)
        return torch.zeros(len(x), job.m, device=x.device).scatter(1, columns, values)

    assert sae.W_dec is not None
    W_MD = sae.W_dec.detach()
    return Trained(encode, lambda z: z @ W_MD + sae.b_dec, W_MD)
