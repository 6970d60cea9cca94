"""The state of a sparse autoencoder in training.

Legend: N rows, B rows of the global batch, D embedding dimension, M features, J dead features.
"""

import time
from collections.abc import Iterator
from math import isfinite
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medsae_ray.core.sae import threshold
from medsae_ray.core.sae.auxk import WithAuxK
from medsae_ray.core.sae.batch_topk import BatchTopK
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.matmul import Dtype, bfloat16_pays
from medsae_ray.core.sae.metrics import Reconstruction, reconstruction
from medsae_ray.core.sae.model import SAE, Losses
from medsae_ray.core.sae.resample import resample
from medsae_ray.core.sae.rules import NEEDED
from medsae_ray.core.sae.training_table import EmbeddingTable
from medsae_ray.errors import ArtifactError, DivergedError

State = dict[str, Any]
_ROWS = 4_096
"""The training rows behind the threshold when epochs are compared."""


class EpochLog(NamedTuple):
    """The log of one epoch; the same on every rank but for `seconds`."""

    epoch: int
    """The number of the epoch, from 1."""
    loss: float
    """The minimised loss, mean over the epoch's steps, as are the next three."""
    mse: float
    """The squared error in normalised space, summed over D; with levels their mean."""
    sparsity: float
    """The L1 norm of a code; gated: of its gates; jumprelu: the number of active features."""
    auxk: float
    """The share of the residual's variance that dead features leave unexplained, 0 if none was dead; gated: the squared
    error of the gates' own reconstruction."""
    r2: float
    """The R2 1 - fvu."""
    fvu: float
    """The fraction of variance unexplained on the held-out rows, with inference activations, after the epoch. BatchTopK
    and Matryoshka cut by a running threshold, but in the last epoch, or with patience in all, by one that keeps k."""
    r2_scalar: float
    """The R2 on the held-out rows as SAIL defines it; see metrics.py."""
    cosine: float
    """The mean cosine between a held-out row and its reconstruction, both less the training mean."""
    l0: float
    """The mean number of active features on the held-out rows."""
    dead_share: float
    """The share of features that fired on no training row in the epoch."""
    seconds: float
    """The wall time, held-out rows included."""


class Ending(NamedTuple):
    """The measurements at the end of training, of the final weights and threshold."""

    r2: float
    """The R2; it and the next four are as in `EpochLog`."""
    fvu: float
    r2_scalar: float
    cosine: float
    l0: float
    train_l0: float | None
    """The mean active features on the training rows behind the threshold; None without such a threshold."""


class BestEpoch(NamedTuple):
    """The epoch of the lowest held-out FVU so far."""

    epoch: int
    fvu: float
    model: dict[str, Tensor]
    """The weights of the epoch, on the CPU."""


def learning_rate(config: SAEConfig, step: int, steps: int) -> float:
    """Return the rate of a step (from 0): linear rise from 0, `lr`, linear fall to 0."""
    rise = (step + 1) / max(1.0, config.warmup_fraction * steps)
    fall = (steps - step) / max(1.0, config.decay_fraction * steps)
    return config.lr * min(1.0, rise, fall)


def row_order(config: SAEConfig, epoch: int, rows: int) -> Tensor:
    """Return the order [N] of the rows in an epoch (from 0)."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + epoch)
    return torch.randperm(rows, generator=generator)


class Training:
    """The state of a training run: its model, optimiser and counters, advanced by one epoch at a time."""

    def __init__(
        self, config: SAEConfig, sae: SAE, model: nn.Module, train: EmbeddingTable, heldout: EmbeddingTable
    ) -> None:
        self.config, self.sae, self.model = config, sae, model
        self.device = sae.W_dec.device
        self.train = train.on(self.device)
        self.heldout_ND = heldout.share(sae.ranks.rank, sae.ranks.world, self.device)
        self.steps = len(train.x_ND) // config.batch_size
        fused = self.device.type in ("cpu", "cuda")
        self.optimiser = torch.optim.Adam(sae.parameters(), lr=config.lr, fused=fused)
        self.epoch = 0
        self.silent_M = torch.zeros(config.width, dtype=torch.int64, device=self.device)
        """The epochs since a feature last fired."""
        self.best: BestEpoch | None = None
        self.train_l0: float | None = None
        """The L0 on training rows at the threshold that they set."""
        sae.low = _precision(config, sae.ranks, self.device)

    @property
    def done(self) -> bool:
        """True if all epochs, or the patience, are spent."""
        patience = self.config.patience
        spent = patience is not None and self.best is not None and self.epoch - self.best.epoch >= patience
        return spent or self.epoch >= self.config.epochs

    def run_epoch(self) -> EpochLog:
        """Train for one epoch, measure the held-out rows and resample dead features. Raises DivergedError if a loss or
        a weight is not finite."""
        started = time.perf_counter()
        order = row_order(self.config, self.epoch, len(self.train.x_ND)).to(self.train.x_ND.device)
        # Dead features are decided once per epoch: their number decides shapes, and reading it stalls a GPU.
        dead_J = (self.silent_M >= self.config.dead_after_epochs).nonzero().squeeze(1)
        parts = torch.zeros(4, device=self.device)
        fired_M = torch.zeros_like(self.silent_M, dtype=torch.bool)
        self.model.train()
        if isinstance(self.sae, BatchTopK):
            self.sae.begin_epoch()
        indices = (self._share(order, step) for step in range(self.steps))
        for step, x_BD in enumerate(self.train.batches(indices, self.device)):
            losses = self._step(x_BD, dead_J, self.epoch * self.steps + step)
            parts += torch.stack(losses[:4]).detach()
            fired_M |= losses.fired_M
        ranks = self.sae.ranks
        fired_M = ranks.any(fired_M)
        self.silent_M = torch.where(fired_M, 0, self.silent_M + 1)
        self.epoch += 1
        loss, mse, sparsity, auxk = (ranks.sum(parts) / (self.steps * ranks.world)).tolist()
        if self.config.patience is not None:
            self._calibrate(_ROWS)  # or an epoch could be the best by its threshold
        elif self.epoch >= self.config.epochs:
            self._calibrate()
        heldout = self._evaluate()
        log = EpochLog(
            epoch=self.epoch,
            loss=loss,
            mse=mse,
            sparsity=sparsity,
            auxk=auxk,
            r2=heldout.r2,
            fvu=heldout.fvu,
            r2_scalar=heldout.r2_scalar,
            cosine=heldout.cosine,
            l0=heldout.l0,
            dead_share=1.0 - float(fired_M.double().mean()),
            seconds=time.perf_counter() - started,
        )
        self._refuse_divergence(log)
        if self.config.patience is not None and (self.best is None or log.fvu < self.best.fvu):
            self.best = BestEpoch(log.epoch, log.fvu, _copy(self.sae.state_dict()))
        self._resample(~fired_M)
        return log

    def _resample(self, silent_M: Tensor) -> None:
        sae = self.sae
        if isinstance(sae, WithAuxK) and sae.resamples and self.epoch < self.config.epochs and bool(silent_M.any()):
            seed = self.config.seed * 1_000_003 + self.epoch
            resample(sae, self.optimiser, silent_M.nonzero().squeeze(1), self.train.x_ND, seed)

    def end(self) -> Ending:
        """Go back to the best epoch's weights, if they were kept, and set the threshold by them."""
        if self.best is not None:
            self.sae.load_state_dict(self.best.model)
        if self.train_l0 is None or self.config.patience is not None:
            self._calibrate()
        heldout = self._evaluate()
        return Ending(heldout.r2, heldout.fvu, heldout.r2_scalar, heldout.cosine, heldout.l0, self.train_l0)

    @torch.no_grad()
    def _calibrate(self, most: int = threshold.ROWS) -> None:
        sae = self.sae
        if not isinstance(sae, BatchTopK) or not sae.calibrates:
            return
        index_N = threshold.sample(len(self.train.x_ND), self.config.seed, most)
        mine_N = index_N[sae.ranks.rank :: sae.ranks.world]

        def blocks() -> Iterator[Tensor]:
            for x_BD in threshold.in_blocks(self.train, mine_N, sae.width, self.device):
                yield sae.pre_activations(sae.normalise(x_BD))

        value, above = threshold.put_at(blocks, sae.k * len(index_N), sae.ranks, self.device)
        sae.threshold.copy_(value)
        self.train_l0 = above / len(index_N)

    def _share(self, order: Tensor, step: int) -> Tensor:
        """Return the rows of a global batch that are this rank's."""
        batch = self.config.batch_size
        ranks = self.sae.ranks
        return order[step * batch : (step + 1) * batch][ranks.rank :: ranks.world]

    def _step(self, x_BD: Tensor, dead_J: Tensor, step: int) -> Losses:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step, self.steps * self.config.epochs)
        self.optimiser.zero_grad()
        losses: Losses = self.model(x_BD, dead_J)
        losses.total.backward()
        self.sae.project_decoder_gradient()
        self.optimiser.step()
        self.sae.finish_step()
        return losses

    def _evaluate(self) -> Reconstruction:
        """Measure the held-out rows of all ranks."""
        self.model.eval()
        mine = reconstruction(self.sae, self.heldout_ND)
        ranks = self.sae.ranks
        return Reconstruction.of_sums(ranks.sum(mine.sums.to(self.device)), ranks.any(mine.fired_M))

    def _refuse_divergence(self, log: EpochLog) -> None:
        """Raise DivergedError before a NaN can reach a checkpoint; losses precede the last step, weights follow it."""
        finite = torch.stack([tensor.isfinite().all() for tensor in self.sae.state_dict().values()])
        if isfinite(log.loss) and isfinite(log.fvu) and bool(finite.all()):
            return
        sparsity = next((name for name in ("l1", "l0") if name in NEEDED[self.config.architecture]), "auxk_coefficient")
        raise DivergedError(
            f"training diverged in epoch {log.epoch} (loss {log.loss:g}, held-out FVU {log.fvu:g}); "
            f"lower lr (now {self.config.lr:g}), raise warmup_fraction (now {self.config.warmup_fraction:g}) "
            f"or lower {sparsity} (now {getattr(self.config, sparsity):g})"
        )

    def state(self) -> State:
        """Copy the state, so that further training does not change it."""
        return {
            "config": self.config.to_dict(),
            "model": _copy(self.sae.state_dict()),
            "optimiser": _copy(self.optimiser.state_dict()),
            "epoch": self.epoch,
            "silent": _copy(self.silent_M),
            "best": None if self.best is None else self.best._asdict(),
            "low": None if self.sae.low is None else str(self.sae.low),
        }

    def load(self, state: State) -> None:
        """Continue from a `state`. Raises ArtifactError if it belongs to other settings or other training rows."""
        config = self.config.to_dict()
        other = [
            f"{key} = {value!r}, not {config[key]!r}" for key, value in state["config"].items() if value != config[key]
        ]
        if other:
            raise ArtifactError(f"the state to resume belongs to other settings: {'; '.join(other)}; start afresh")
        for name in ("mean", "scale"):
            if not torch.equal(state["model"][name].to(self.device), getattr(self.sae, name)):
                raise ArtifactError(
                    f"the state to resume belongs to other training rows ({name} differs); start afresh"
                )
        self.sae.load_state_dict(state["model"])
        self.optimiser.load_state_dict(_copy(state["optimiser"]))
        self.epoch = state["epoch"]
        self.silent_M = state["silent"].to(self.device)
        self.best = None if state["best"] is None else BestEpoch(**state["best"])
        # The precision measured at the start of training holds to its end, on any machine.
        self.sae.low = None if state["low"] is None else torch.bfloat16


def _precision(config: SAEConfig, ranks: Ranks, device: torch.device) -> Dtype:
    """Return the dtype to which factors of large products are rounded; the same on every rank."""
    if config.precision != "auto":
        return torch.bfloat16 if config.precision == "bfloat16" else None
    pays = bfloat16_pays(config.batch_size // ranks.world, config.d_in, config.width, device)
    return None if bool(ranks.any(torch.tensor(not pays, device=device))) else torch.bfloat16


def _copy(value: Any) -> Any:
    """Return `value` with its tensors copied to the CPU."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value
