"""Stage `sae`: the SAE fitted by Ray Train with DDP, from checkpoints if it was interrupted.

Each attempt has a folder of its own below the draft, so two runs on one root never write the same checkpoint. An
attempt starts from the newest whole checkpoint that an earlier one left.
"""

import io
import json
import signal
import tempfile
import threading
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.train
import torch
from ray.train import TrainingFailedError
from ray.train.torch import TorchConfig, TorchTrainer, prepare_model

from medsae_ray.config import Sae, Train
from medsae_ray.core.artifact import Artifact, Draft, sha256
from medsae_ray.core.disk import writing
from medsae_ray.core.features import readable
from medsae_ray.core.layout import Layout
from medsae_ray.core.sae.checkpoint import sae_to_bytes
from medsae_ray.core.sae.config import SAEConfig
from medsae_ray.core.sae.fit import EpochLog, check_batch, fit
from medsae_ray.core.sae.table import Table
from medsae_ray.core.storage import Store
from medsae_ray.errors import MedsaeError
from medsae_ray.stages.cluster import own_error, require
from medsae_ray.stages.run import Made, Run, Stage
from medsae_ray.stages.tables import split_table

ATTEMPTS = "_attempts"
SPLITS = ("sae", "naming")
"""Of the training rows and of the held-out rows."""


class Fitted(NamedTuple):
    """What training hands over."""

    weights: bytes
    config: bytes
    log: list[dict[str, float]]
    resumed_from: int
    """Epoch that this attempt started after; 0 for a fresh start."""


class Job(NamedTuple):
    """What every worker is told."""

    config: SAEConfig
    embeddings: Artifact
    manifest: Artifact
    how: Train
    provenance: dict[str, Any]
    attempts: Store
    refusals: Any = None
    """On Ray the actor `Refusals`."""

    @property
    def threads(self) -> int:
        """Of one worker's arithmetic."""
        return max(1, int(self.how.cpus))


def sae_config(sae: Sae, d_in: int) -> SAEConfig:
    return SAEConfig.from_dict(sae.settings() | {"d_in": d_in})


def _table(job: Job, split: str) -> AbstractContextManager[Table]:
    return split_table(job.embeddings, job.manifest, split, job.how)


def train_here(
    job: Job,
    fit_with: dict[str, Any],
    resume: dict[str, Any] | None,
    save: Callable[..., None],
    rows: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> Fitted:
    """Fit in this process. `save(epoch, state)` is called on every rank at checkpoint epochs; `rows` are the training
    and held-out embeddings if somebody has read them already."""
    torch.set_num_threads(job.threads)
    log: list[dict[str, float]] = list(resume["log"]) if resume else []

    def on_epoch(entry: EpochLog, state: Callable[[], dict[str, Any]]) -> None:
        log.append(entry._asdict())
        if entry.epoch % job.how.checkpoint_epochs == 0:
            save(entry.epoch, lambda: {"fit": state(), "log": log})

    state = resume["fit"] if resume else None
    with ExitStack() as held:
        tables = rows or [held.enter_context(_table(job, split)) for split in SPLITS]
        sae = fit(job.config, *tables, resume=state, on_epoch=on_epoch, **fit_with)
    weights, config = sae_to_bytes(sae, job.config, job.provenance)
    return Fitted(weights, config, log, resume["fit"]["epoch"] if resume else 0)


class Refusals:
    """Remembers an error that no further attempt changes, as Ray Train would make them all the same."""

    def __init__(self) -> None:
        self.error: MedsaeError | None = None

    def note(self, error: MedsaeError) -> None:
        self.error = error

    def noted(self) -> MedsaeError | None:
        return self.error


def worker(settings: dict[str, Any]) -> None:
    """The loop of one Ray Train worker. What our code refuses is refused at once by a further attempt."""
    job: Job = settings["job"]
    if refused := ray.get(job.refusals.noted.remote()):
        raise refused
    try:
        _work(job)
    except MedsaeError as error:
        ray.get(job.refusals.note.remote(error))
        raise


def _work(job: Job) -> None:
    context = ray.train.get_context()
    checkpoint = ray.train.get_checkpoint()
    resume = _read_state(Path(checkpoint.path)) if checkpoint else newest_state(job.attempts)

    def save(epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        files = {"state": to_bytes(state())} if context.get_world_rank() == 0 else None
        _report(job.attempts, files, f"epoch-{epoch:06d}")

    place = {"rank": context.get_world_rank(), "world": context.get_world_size(), "wrap": prepare_model}
    fitted = train_here(job, place, resume, save)
    parts = {"result": to_bytes(fitted._asdict())} if context.get_world_rank() == 0 else None
    _report(job.attempts, parts, "result")


def _report(attempts: Store, files: dict[str, bytes] | None, name: str) -> None:
    """A checkpoint from rank 0; a barrier for the others. Each file's name ends in its checksum."""
    with tempfile.TemporaryDirectory() as folder:
        with writing(folder, lasting=True):
            for stem, data in (files or {}).items():
                (Path(folder) / f"{stem}-{sha256(data)}").write_bytes(data)
        checkpoint = ray.train.Checkpoint.from_directory(folder) if files else None
        with writing(f"{attempts.uri}/{name}", lasting=True):
            ray.train.report({"checkpoint": name}, checkpoint=checkpoint, checkpoint_dir_name=name)


def to_bytes(value: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def _checked(name: str, data: bytes) -> Any | None:
    """What `to_bytes` wrote, None if the file is torn."""
    return torch.load(io.BytesIO(data), weights_only=True) if name.endswith(sha256(data)) else None


def _read_state(folder: Path) -> dict[str, Any] | None:
    found = [_checked(file.name, file.read_bytes()) for file in folder.iterdir() if file.name.startswith("state-")]
    return next((state for state in found if state is not None), None)


def newest_state(attempts: Store) -> dict[str, Any] | None:
    """The latest whole checkpoint of all earlier attempts."""
    folders = [f"{attempt}/{epoch}" for attempt in attempts.folders() for epoch in attempts.folders(attempt)]
    for folder in sorted((f for f in folders if "/epoch-" in f), key=lambda f: f.rsplit("/", 1)[1], reverse=True):
        for name in attempts.names(folder):
            state = _checked(name, attempts.read(f"{folder}/{name}")) if name.startswith("state-") else None
            if state is not None:
                return dict(state)
    return None


def _train_on_ray(run: Run, job: Job) -> Fitted:
    run.connect()
    how = job.how
    require("train", how.workers * how.cpus, how.workers * how.gpus)
    job.attempts.check_writable()
    job = job._replace(refusals=ray.remote(num_cpus=0)(Refusals).remote())
    filesystem, path = job.attempts.opened
    attempt = f"attempt-{uuid.uuid4().hex[:12]}"
    trainer = TorchTrainer(
        worker,
        train_loop_config={"job": job},
        torch_config=TorchConfig(backend="nccl" if how.gpus else "gloo"),
        scaling_config=ray.train.ScalingConfig(
            num_workers=how.workers,
            use_gpu=how.gpus > 0,
            resources_per_worker={"CPU": how.cpus} | ({"GPU": how.gpus} if how.gpus else {}),
        ),
        run_config=ray.train.RunConfig(
            name=attempt,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=ray.train.FailureConfig(max_failures=how.retries),
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    with run.console.status(f"sae: {job.config.epochs} epochs on {how.workers} workers"):
        try:
            result = _fit(trainer)
        except TrainingFailedError as error:
            causes = "\n".join(str(cause) for cause in getattr(error, "worker_failures", {}).values())
            raise own_error(causes) or MedsaeError(f"training failed after {how.retries} retries: {error}") from error
    assert result.checkpoint is not None, "training ends with a checkpoint"
    with result.checkpoint.as_directory() as folder:
        (file,) = Path(folder).glob("result-*")
        fitted = Fitted(**(_checked(file.name, file.read_bytes()) or {}))
    job.attempts.delete_folder(attempt)
    return fitted


def _fit(trainer: TorchTrainer) -> Any:
    """`trainer.fit()`, which answers Ctrl-C by ending the process without a word, also after it is done."""
    before = signal.getsignal(signal.SIGINT)
    try:
        return trainer.fit()
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


def job_of(sae: Sae, draft: Draft, how: Train, d_in: int) -> Job:
    """The training of one SAE, whose artifact `draft` becomes."""
    embeddings, manifest = draft.parents["embeddings"], draft.parents["manifest"]
    provenance = {"encoder": embeddings.record.what, "embeddings": embeddings.record.fingerprint}
    return Job(sae_config(sae, d_in), embeddings, manifest, how, provenance, draft.store.child(ATTEMPTS))


def training_rows(embeddings: Artifact, manifest: Artifact) -> int:
    """Rows of the table that the SAE learns from: images, or their patches."""
    split = manifest.table(["split"])["split"].to_numpy(zero_copy_only=False)
    return int((split[readable(embeddings)] == SPLITS[0]).sum()) * Layout.of(embeddings.schema).tokens


def made_of(draft: Draft, fitted: Fitted, config: SAEConfig) -> Made:
    """Write what training handed over."""
    kept = min(fitted.log, key=lambda entry: entry["fvu"]) if config.patience else fitted.log[-1]
    last = {key: value for key, value in kept.items() if key != "seconds"}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(fitted.log), sink)
    files = [
        draft.write_file("weights", ".safetensors", fitted.weights),
        draft.write_file("config", ".json", fitted.config),
        draft.write_file("log", ".parquet", sink.getvalue().to_pybytes()),
    ]
    return Made(
        files,
        {"last_epoch": last, "resumed_from_epoch": fitted.resumed_from, "config": json.loads(fitted.config)["config"]},
    )


def _make(run: Run, draft: Draft) -> Made:
    embeddings, manifest = draft.parents["embeddings"], draft.parents["manifest"]
    job = job_of(run.recipe.what.sae, draft, run.recipe.how.train, Layout.of(embeddings.schema).dim)
    if run.recipe.how.engine == "ray":
        # Here and not on a worker, where Ray Train would try again what can never fit.
        check_batch(job.config, training_rows(embeddings, manifest), job.how.workers)
        fitted = _train_on_ray(run, job)
    else:
        fitted = train_here(job, {}, None, lambda epoch, state: None)
    return made_of(draft, fitted, job.config)


def _what(run: Run) -> dict[str, Any]:
    return run.recipe.what.sae.settings()


SAE = Stage("sae", 4, lambda recipe: ("embeddings", "manifest"), _what, _make)
