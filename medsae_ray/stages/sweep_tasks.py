"""The training of a sweep's SAEs: one Ray task each, or one after another in this process.

The embeddings lie once in each node's object store, where every task reads them without a copy, and their normalisation
is fitted once. As many tasks run at once as the cluster has room for. On CPUs a worker goes on to the next task without
a new start; on GPUs each task has a process of its own, because one that has used CUDA keeps its first device. A worker
that dies takes along only the SAE that it was training, which another one takes up from its newest checkpoint.
"""

import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from medsae_ray.cluster.joining import own_error
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.sae.normalise import Normalisation
from medsae_ray.core.sae.ranking import DIED, Failure
from medsae_ray.errors import DivergedError, MedsaeError, ShardError
from medsae_ray.runtime.made import commit, now
from medsae_ray.runtime.run import Run
from medsae_ray.runtime.tries import COMPUTING, READING, TRAINING, Tries
from medsae_ray.stages.sae import SPLITS, Job, made_of, train_here
from medsae_ray.stages.sae_checkpoints import newest_state, saver
from medsae_ray.stages.sae_table import split_table


class Task(NamedTuple):
    """One SAE to train."""

    job: Job
    draft: Draft
    """Its artifact."""

    @property
    def kind(self) -> tuple[str, float | None]:
        """What its normalisation depends on, besides the rows."""
        return self.job.config.normalisation, self.job.config.whiten

    @property
    def cost(self) -> int:
        """Grows with the time that it takes."""
        return self.job.config.width * self.job.epochs


Ended = Iterator[tuple[Task, Failure | None]]


def train_all(run: Run, tasks: list[Task]) -> Ended:
    """Train and commit all SAEs, the longest first so that none is left over at the end; yields each as it ends."""
    tasks = sorted(tasks, key=lambda task: -task.cost)
    return _on_ray(run, tasks) if run.recipe.how.engine == "ray" and tasks else _loop(tasks)


def _loop(tasks: list[Task]) -> Ended:
    rows: list[np.ndarray] = []
    fitted: dict[Any, Normalisation] = {}
    for task in tasks:
        rows = rows or [_split_rows(task.job, split) for split in SPLITS]
        if task.kind not in fitted:
            fitted[task.kind] = _fitted(rows[0], task.kind, task.job.threads)
        yield task, _train(task, rows[0], rows[1], fitted[task.kind])


def _on_ray(run: Run, tasks: list[Task]) -> Ended:
    run.connect()
    job = tasks[0].job
    how = job.how
    running: dict[Any, Task] = {}
    with Tries(how.retries).kept() as tries:
        rows = [remote(_rows, how.cpus).remote(tries, job, split) for split in SPLITS]
        kinds = {task.kind for task in tasks}
        fit = remote(_normalisation, how.cpus)
        fitted = {kind: fit.remote(tries, rows[0], kind, job.threads) for kind in kinds}
        train = remote(_train, how.cpus, how.gpus)
        try:
            ray.get(list(fitted.values()))  # what is wrong with the rows is no fault of an SAE
            running = {train.remote(task, *rows, fitted[task.kind], tries): task for task in tasks}
            while running:
                (ended,), _ = ray.wait(list(running))
                yield running.pop(ended), _outcome(ended)
        except RayTaskError as error:
            raise own_error(str(error)) or MedsaeError(f"a worker of the sweep failed: {error}") from None
        finally:
            for left in running:
                ray.cancel(left, force=True)


def remote(function: Callable[..., Any], cpus: float, gpus: float = 0.0) -> Any:
    """Return a function as a Ray task of so many CPUs and GPUs.

    What is lost with a node is made again, also the rows and what was fitted to them; `tries` ends what ends workers.
    Ray gives each task of a GPU a new process only if it learns of the GPU here, and not in `options`.
    """
    return ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=-1)(function)


def _outcome(ended: Any) -> Failure | None:
    try:
        return ray.get(ended)  # type: ignore[no-any-return]
    except RayTaskError:
        raise
    except RayError as error:
        return Failure(DIED, f"its worker was lost: {str(error).strip().splitlines()[0]}")


def _rows(tries: Tries, job: Job, split: str) -> np.ndarray:
    tries.begin(f"split {split}", READING)
    return _split_rows(job, split)


def _split_rows(job: Job, split: str) -> np.ndarray:
    with split_table(job.embeddings, job.manifest, split, job.how) as table:
        return np.array(table.x_ND.numpy())


def _normalisation(tries: Tries, x_ND: np.ndarray, kind: tuple[str, float | None], threads: int) -> Normalisation:
    tries.begin(f"normalisation {kind[0]}", COMPUTING)
    return _fitted(x_ND, kind, threads)


def _fitted(x_ND: np.ndarray, kind: tuple[str, float | None], threads: int) -> Normalisation:
    torch.set_num_threads(threads)
    return Normalisation.fit(_tensor(x_ND), kind[1], kind[0])


def _train(
    task: Task, x_ND: np.ndarray, heldout_ND: np.ndarray, normalisation: Normalisation, tries: Tries | None = None
) -> Failure | None:
    """Train and commit one SAE in this process, from the newest checkpoint that an earlier attempt left."""
    start, clock = now(), time.perf_counter()
    job, draft = task
    if draft.committed():
        return None
    try:
        if tries:
            tries.begin(draft.name, TRAINING)
    except ShardError as error:
        return Failure(DIED, str(error))
    attempt = f"attempt-{uuid.uuid4().hex[:12]}"
    fit_with = {"normalisation": normalisation, "wrap": lambda sae: sae.to("cuda" if job.how.gpus else "cpu")}
    rows = _tensor(x_ND), _tensor(heldout_ND)
    save = saver(job.attempts, attempt, job.epochs)
    try:
        fitted = train_here(job, fit_with, newest_state(job.attempts), save, rows)
    except DivergedError as error:
        return Failure("diverged", str(error))
    except torch.OutOfMemoryError as error:
        return Failure("memory", str(error))
    commit(draft, made_of(draft, fitted, job.config), start, time.perf_counter() - clock)
    job.attempts.delete_folder(attempt)
    return None


def _tensor(values: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        # What lies in the object store cannot be written to, and nobody does.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(values)
