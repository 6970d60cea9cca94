"""Training of one sparse autoencoder, by one process or by several that share each batch. Legend: see training.py."""

from collections.abc import Callable

from torch import Tensor, nn

from medsae_ray.core.sae.architectures import build
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.defaults import check_fits
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.init import start
from medsae_ray.core.sae.model import SAE
from medsae_ray.core.sae.normalise import Normalisation, check_finite
from medsae_ray.core.sae.training import Ending, EpochLog, State, Training
from medsae_ray.core.sae.training_table import EmbeddingTable
from medsae_ray.errors import DatasetError, RecipeError

OnEpoch = Callable[[EpochLog, Callable[[], State]], None]
OnEnd = Callable[[Ending], None]


def fit(
    config: SAEConfig,
    train: Tensor | EmbeddingTable,
    heldout: Tensor | EmbeddingTable,
    *,
    rank: int = 0,
    world: int = 1,
    wrap: Callable[[SAE], nn.Module] = lambda sae: sae,
    resume: State | None = None,
    on_epoch: OnEpoch | None = None,
    on_end: OnEnd | None = None,
    normalisation: Normalisation | None = None,
) -> SAE:
    """Train on raw embeddings [N, D]; the result is in eval mode and holds its own normalisation.

    Every rank passes all rows, in memory or in a file (table.py) with the same result; each reads and trains on its
    share of every global batch, and the global batches depend on (seed, epoch) alone. `wrap` moves the module to its
    device and, with several ranks, makes it average gradients (ray.train.torch.prepare_model, DistributedDataParallel).
    `on_epoch` is called on every rank with the epoch's log and a function that returns the state, a detached copy on
    the CPU; `resume` takes such a state and continues exactly as if there had been no interruption. `on_end` is called
    on every rank with the finished SAE's result on the held-out rows. `normalisation` is that of Normalisation.fit for
    these rows, if known: SAEs on the same rows share it. With `config.patience` the weights are those of the best
    epoch. The threshold of BatchTopK and Matryoshka is set last, so that the training rows have k active features each
    on average.

    Raises RecipeError if the settings do not fit the data or the ranks, DivergedError if training diverges,
    DatasetError on rows with NaN or Inf, and ArtifactError if `resume` belongs to other settings or rows.
    """
    ranks = Ranks(rank, world)
    train, heldout = EmbeddingTable.of(train), EmbeddingTable.of(heldout)
    _check(config, train.x_ND, heldout.x_ND, ranks)
    if normalisation is None:
        normalisation = Normalisation.fit(train.x_ND, config.whiten, config.normalisation)
    sae = build(config, normalisation)
    start(sae, train.x_ND, config)
    sae.ranks = ranks
    model = wrap(sae)
    if world > 1 and model is sae:
        raise RecipeError(f"wrap left the module as it was, so {world} ranks would not share gradients; wrap it in DDP")
    training = Training(config, sae, model, train, heldout)
    if resume is not None:
        training.load(resume)
    while not training.done:
        log = training.run_epoch()
        if on_epoch is not None:
            on_epoch(log, training.state)
    ending = training.end()
    if on_end is not None:
        on_end(ending)
    sae.ranks, sae.scratch = Ranks(), None
    return sae.eval()


def _check(config: SAEConfig, train_ND: Tensor, heldout_ND: Tensor, ranks: Ranks) -> None:
    ranks.check()
    for x_ND, what in ((train_ND, "training"), (heldout_ND, "held-out")):
        if x_ND.ndim != 2 or x_ND.shape[1] != config.d_in:
            raise DatasetError(f"{what} embeddings have shape {tuple(x_ND.shape)}, rows x d_in = {config.d_in} wanted")
        if len(x_ND) < ranks.world:
            raise DatasetError(f"{len(x_ND)} {what} embeddings are too few for {ranks.world} ranks")
    check_finite(heldout_ND, "held-out")
    check_fits(len(train_ND), vars(config), ranks.world)
