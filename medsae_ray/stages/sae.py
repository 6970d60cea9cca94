"""Stage `sae`: the SAE fitted by Ray Train with DDP, from checkpoints if it was interrupted.

Each attempt has a folder of its own below the draft, so two runs on one root never write the same checkpoint. An
attempt starts from the newest whole checkpoint that an earlier one left.
"""

import json
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, NamedTuple, cast

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
import torch
from ray.train import TrainingFailedError
from ray.train.collective import broadcast_from_rank_zero
from ray.train.torch import TorchConfig, TorchTrainer, prepare_model

from medsae_ray.cluster.demands import train_demand
from medsae_ray.config import Sae, Train
from medsae_ray.config.sae import RESTARTS
from medsae_ray.core.artifacts.artifact import Artifact, Draft, Record, sha256
from medsae_ray.core.artifacts.columns import readable
from medsae_ray.core.artifacts.layout import Layout
from medsae_ray.core.artifacts.metrics import LastEpoch, SaeMetrics, metrics_of
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.artifacts.warnings import RunWarning
from medsae_ray.core.images.unreadable import counted
from medsae_ray.core.sae.checkpoint import sae_to_bytes
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.defaults import SAMPLE, Spread, check_fits, choose, open_settings, spread
from medsae_ray.core.sae.distributed import Ranks
from medsae_ray.core.sae.ranking import winner
from medsae_ray.core.sae.restarts import Restarts
from medsae_ray.core.sae.training import EpochLog
from medsae_ray.core.sae.training_table import EmbeddingTable
from medsae_ray.errors import ArtifactError, DatasetError, MedsaeError
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.runtime.tries import Tries
from medsae_ray.stages.sae_checkpoints import Pace, from_bytes, newest, read_state, saver, to_bytes
from medsae_ray.stages.sae_failures import Group, Judge, own_of
from medsae_ray.stages.sae_progress import Tell, show, teller, watched
from medsae_ray.stages.sae_table import sample_rows, split_table

ATTEMPTS, RESULT = "_attempts", "result-"
SPLITS = ("sae", "naming")
"""The splits of the training rows and of the held-out rows."""
_KNOWN: dict[tuple[str, str], Spread] = {}
"""Fingerprints of embeddings and manifest -> spread of the rows, which a run needs several times."""
FAR = 0.2
"""The relative deviation of active features on held-out images from the requested number that is worth a warning."""


class Fitted(NamedTuple):
    """The result of training."""

    weights: bytes
    config: bytes
    log: list[dict[str, float]]
    ending: dict[str, float | None]
    """The figures of the finished SAE, fields of `Ending`."""
    resumed_from: int
    """The last epoch before this attempt; 0 for a fresh start."""


class Job(NamedTuple):
    """The settings that every worker gets."""

    config: SAEConfig
    embeddings: Artifact
    manifest: Artifact
    how: Train
    provenance: dict[str, Any]
    attempts: Store
    restarts: int = 1
    """The trainings, from as many seeds."""

    @property
    def epochs(self) -> int:
        """The most epochs of all trainings."""
        return self.config.epochs * self.restarts

    @property
    def threads(self) -> int:
        """The number of threads of one worker's arithmetic."""
        return max(1, int(self.how.cpus))


def settings_of(sae: Sae, embeddings: Artifact, manifest: Artifact) -> dict[str, Any]:
    """Return all settings; those left open in the recipe follow from the training rows."""
    settings = sae.settings()
    if not open_settings(settings):
        return settings
    return choose(settings, training_rows(embeddings, manifest), _spread(embeddings, manifest))


def _spread(embeddings: Artifact, manifest: Artifact) -> Spread:
    """Compute the spread of the training rows from the same sample, however they are sharded."""
    key = embeddings.record.fingerprint, manifest.record.fingerprint
    if key not in _KNOWN:
        _KNOWN[key] = spread(sample_rows(embeddings, manifest, SPLITS[0], SAMPLE))
    return _KNOWN[key]


def _table(job: Job, split: str) -> AbstractContextManager[EmbeddingTable]:
    return split_table(job.embeddings, job.manifest, split, job.how)


def train_here(
    job: Job,
    fit_with: dict[str, Any],
    resume: dict[str, Any] | None,
    save: Callable[..., None],
    rows: tuple[torch.Tensor, torch.Tensor] | None = None,
    tell: Tell = lambda entry: None,
) -> Fitted:
    """Fit in this process. `save(epoch, state)` is called on every rank when a checkpoint is due, `tell` after every
    epoch; `rows` are the training and held-out embeddings if they have already been read."""
    torch.set_num_threads(job.threads)
    ranks = Ranks(fit_with.get("rank", 0), fit_with.get("world", 1))
    pace = Pace(job.how.checkpoint_epochs, ranks, "cuda" if job.how.gpus else "cpu")
    restarts = Restarts(job.config, job.restarts, lambda sae, config: sae_to_bytes(sae, config, job.provenance))

    def report(entry: EpochLog, state: Callable[[], dict[str, Any]]) -> None:
        tell(entry)
        if pace.due(entry.epoch):
            save(entry.epoch, state)

    with ExitStack() as held:
        train, heldout = rows or [held.enter_context(_table(job, split)) for split in SPLITS]
        kept = restarts.fit(train, heldout, resume, report, **fit_with)
    return Fitted(*kept, _epochs_before(job, resume))


def _epochs_before(job: Job, resume: dict[str, Any] | None) -> int:
    return resume.get("start", 0) * job.config.epochs + resume["fit"]["epoch"] if resume else 0


def worker(settings: dict[str, Any]) -> None:
    """Run the loop of one Ray Train worker. Checkpoints go through the run's own store, which waits for a store that
    is unreachable, and the first rank chooses the one to resume from, so that all resume from the same."""
    job: Job = settings["job"]
    attempt: str = settings["attempt"]
    context = ray.train.get_context()
    rank = context.get_world_rank()
    settings["group"].join(rank)
    chosen = broadcast_from_rank_zero({"file": newest(job.attempts) if rank == 0 else None})["file"]
    save = saver(job.attempts, attempt, job.epochs) if rank == 0 else lambda epoch, state: None
    tell = teller(settings["progress"]) if rank == 0 else lambda entry: None
    place = {"rank": rank, "world": context.get_world_size(), "wrap": prepare_model}
    fitted = train_here(job, place, read_state(job.attempts, chosen), save, tell=tell)
    if rank == 0:
        data = to_bytes(fitted._asdict())
        job.attempts.write(f"{attempt}/{RESULT}{sha256(data)}", data)


def _train_on_ray(run: Run, job: Job) -> Fitted:
    run.connect()
    how = job.how
    job.attempts.check_writable()
    attempt = f"attempt-{uuid.uuid4().hex[:12]}"
    with ExitStack() as held:
        group = Group(held.enter_context(Tries(how.retries).kept()))
        # Ray Train requires a storage path but stores nothing there: neither checkpoints nor results are reported.
        storage = held.enter_context(tempfile.TemporaryDirectory(prefix="medsae-train-"))
        trainer = TorchTrainer(
            worker,
            train_loop_config={"job": job, "attempt": attempt, "group": group, "progress": f"medsae-{attempt}"},
            torch_config=TorchConfig(backend="nccl" if how.gpus else "gloo"),
            scaling_config=ray.train.ScalingConfig(
                num_workers=how.workers,
                use_gpu=how.gpus > 0,
                resources_per_worker={"CPU": how.cpus} | ({"GPU": how.gpus} if how.gpus else {}),
            ),
            run_config=ray.train.RunConfig(
                name=attempt,
                storage_path=storage,
                failure_config=ray.train.FailureConfig(max_failures=-1),
                callbacks=[Judge(group, how.retries)],  # type: ignore[list-item]
            ),
        )
        bar = held.enter_context(run.bar("sae", job.epochs, "epochs"))
        try:
            with watched(f"medsae-{attempt}", bar):
                _fit(trainer)
        except TrainingFailedError as error:
            refused = getattr(error, "controller_failure", None)
            ours = refused if isinstance(refused, MedsaeError) else own_of(getattr(error, "worker_failures", {}))
            raise ours or MedsaeError(f"training failed: {error}") from None
        fitted = _result(job.attempts, attempt)
        # Reads are a second apart, so the last epoch may have been missed.
        last = EpochLog(**fitted.log[-1])  # type: ignore[arg-type]
        show(bar, last if job.restarts == 1 else last._replace(epoch=job.epochs))
    job.attempts.delete_folder(attempt)
    return fitted


def _result(attempts: Store, attempt: str) -> Fitted:
    """Read the result that the first rank of a successful attempt wrote."""
    for name in attempts.names(attempt):
        if name.startswith(RESULT) and (found := from_bytes(name, attempts.read(f"{attempt}/{name}"))) is not None:
            return Fitted(**found)
    raise ArtifactError(f"{attempts.uri}/{attempt}: training ended and its result is not there; run it again")


def _fit(trainer: TorchTrainer) -> Any:
    """Call `trainer.fit()`, which answers Ctrl-C by ending the process without a message, also after it is done."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def job_of(draft: Draft, how: Train) -> Job:
    """Return the training of the SAE of the artifact `draft`."""
    embeddings, manifest = draft.parents["embeddings"], draft.parents["manifest"]
    settings = draft.what | {"d_in": Layout.of(embeddings.schema).dim}
    restarts = settings.pop(RESTARTS, 1)
    config = SAEConfig.from_dict(settings)
    provenance = {"encoder": embeddings.record.what, "embeddings": embeddings.record.fingerprint}
    return Job(config, embeddings, manifest, how, provenance, draft.store.child(ATTEMPTS), restarts)


def training_rows(embeddings: Artifact, manifest: Artifact) -> int:
    """Count the rows that the SAE learns from: images, or their patches. DatasetError if a split that training reads
    is empty; workers would only find out after their start."""
    split = manifest.table(["split"])["split"].to_numpy(zero_copy_only=False)
    images = {name: int((split[readable(embeddings)] == name).sum()) for name in SPLITS}
    if empty := [name for name in SPLITS if not images[name]]:
        raise DatasetError(
            f"no image of split {' and '.join(empty)} can be used; {counted(embeddings.record.not_ok, len(split))}"
        )
    return images[SPLITS[0]] * Layout.of(embeddings.schema).tokens


def made_of(draft: Draft, fitted: Fitted, config: SAEConfig) -> Made:
    """Write the result of training."""
    kept = min(fitted.log, key=lambda entry: entry["fvu"]) if config.patience else fitted.log[-1]
    last = {key: value for key, value in (kept | fitted.ending).items() if key != "seconds"}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(fitted.log), sink)
    files = [
        draft.write_file("weights", ".safetensors", fitted.weights),
        draft.write_file("config", ".json", fitted.config),
        draft.write_file("log", ".parquet", sink.getvalue().to_pybytes()),
    ]
    metrics = SaeMetrics(
        last_epoch=cast(LastEpoch, last),
        resumed_from_epoch=fitted.resumed_from,
        training_rows=training_rows(draft.parents["embeddings"], draft.parents["manifest"]),
        config=json.loads(fitted.config)["config"],
    )
    return Made(files, metrics)


def _make(run: Run, draft: Draft) -> Made:
    parents = draft.parents["embeddings"], draft.parents["manifest"]
    rows = training_rows(*parents)
    job = job_of(draft, run.recipe.how.train)
    if chosen := open_settings(trained(run).settings()):
        said = ", ".join(f"{name} {draft.what[name]:,}" for name in chosen)
        varies = _spread(*parents).directions
        about = f"{rows:,} training rows of {job.config.d_in:,} numbers that vary in about {varies:,.0f}"
        run.console.print(f"sae: for {about} directions were chosen {said}")
    if run.recipe.how.engine == "ray":
        # Here and not on a worker, where Ray Train would retry settings that can never fit.
        check_fits(rows, draft.what, job.how.workers)
        fitted = _train_on_ray(run, job)
    else:
        with run.bar("sae", job.epochs, "epochs") as bar:
            fitted = train_here(job, {}, None, lambda epoch, state: None, tell=lambda entry: show(bar, entry))
    return made_of(draft, fitted, job.config)


def parents_of(run: Run) -> tuple[Artifact, Artifact]:
    """Return embeddings and manifest: a stage is named after its parents are made."""
    embeddings, manifest = (run.committed(name) for name in _PARENTS)
    assert embeddings is not None
    assert manifest is not None
    return embeddings, manifest


def _what(run: Run) -> dict[str, Any]:
    return settings_of(trained(run), *parents_of(run))


def trained(run: Run) -> Sae:
    """Return the settings of the SAE that the run takes: the recipe's, or those that a sweep chose."""
    what = run.recipe.what
    if not what.chooses:
        return what.sae
    ranking = run.committed("ranking")
    assert ranking is not None, "a stage is named after what decides its settings"
    return type(what.sae).model_validate(what.sae.model_dump() | json.loads(winner(ranking.table())))


def sae_warnings(record: Record) -> Iterator[RunWarning]:
    """Warn about an SAE whose number of active features differs from the requested one."""
    metrics, what = metrics_of(record, SaeMetrics), record.what
    wanted = what.get("target_l0") or what.get("k") or (what.get("ks") or [None])[-1]
    found = metrics["last_epoch"]["l0"]
    if wanted and abs(found / wanted - 1) > FAR:
        yield RunWarning("l0_far_from_k", _far(found, wanted, metrics), round(found, 2))


def _far(found: float, wanted: float, metrics: SaeMetrics) -> str:
    width, rows = metrics["config"]["width"], metrics["training_rows"]
    return (
        f"held-out images have {found:.1f} active features on average, where {wanted:g} were asked for: "
        f"{width:,} features were fitted to {rows:,} training rows. "
        + ("Use fewer features (what.sae.width), or more images" if found > wanted else "Train longer, or lower k")
    )


_PARENTS = ("embeddings", "manifest")
SAE = Stage(
    "sae",
    5,
    lambda recipe: _PARENTS,
    _what,
    _make,
    chosen_by=lambda recipe: ("ranking",) if recipe.what.chooses else (),
    warnings=lambda run, sae: sae_warnings(sae.record),
    demands=lambda recipe: (train_demand("sae", recipe.how.train),),
)
