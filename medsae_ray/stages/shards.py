"""Maps a shard's work over a cluster with Ray Data, or over the same shards in a plain loop. Same parts either way.

One shard is one Ray Data block from reading to writing. A worker writes its own part and passes on only the receipt,
so no image or embedding ever goes through the driver.
"""

import json
import threading
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.exceptions import RayError
from ray.util.annotations import RayDeprecationWarning

from medsae_ray.config import Pool
from medsae_ray.core.artifact import PartWriter, Receipt
from medsae_ray.core.work import ShardWork
from medsae_ray.errors import MedsaeError, ShardError
from medsae_ray.stages.cluster import own_error

_COUNTS = ("not_ok", "noted")


def map_shards(work: ShardWork, writer: PartWriter, todo: list[int], pool: Pool, engine: str) -> Iterator[Receipt]:
    """Compute and write the parts `todo`; yields each receipt as its part appears.

    Raises ShardError naming the shard if its computation raises, or if its worker dies more often than pool.retries.
    """
    if not todo:
        return iter(())
    return _loop(work, writer, todo) if engine == "loop" else _ray(work, writer, todo, pool)


def _loop(work: ShardWork, writer: PartWriter, todo: list[int]) -> Iterator[Receipt]:
    model = work.load()
    for shard in todo:
        with _naming(shard):
            yield writer.write(shard, work.compute(model, work.prepare(shard)), work.rows[shard])


class Ledger:
    """Counts how often each shard was begun, so that a shard which kills its worker can be named."""

    def __init__(self) -> None:
        self.begun: dict[int, int] = {}
        self.ended: set[int] = set()

    def begin(self, shard: int) -> None:
        self.begun[shard] = self.begun.get(shard, 0) + 1

    def end(self, shard: int) -> None:
        self.ended.add(shard)

    def unfinished(self) -> dict[int, int]:
        return {shard: times for shard, times in self.begun.items() if shard not in self.ended}


def _ray(work: ShardWork, writer: PartWriter, todo: list[int], pool: Pool) -> Iterator[Receipt]:
    ledger: Any = ray.remote(num_cpus=0)(Ledger).remote()
    shards = ray.data.from_items([{"shard": shard} for shard in todo], override_num_blocks=len(todo))
    # Ray splits a block that outgrows its target, and two halves of a shard would overwrite each other's part.
    shards.context.target_max_block_size = None
    shards.context.enable_progress_bars = False
    shards.context.print_on_execution_start = False
    shards.context.verbose_progress = False
    with warnings.catch_warnings():
        # Ray 2.60 means to replace these keywords, and has nothing in their place yet.
        warnings.simplefilter("ignore", RayDeprecationWarning)
        prepared = shards.map_batches(
            Prepare(work, ledger),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=pool.reader_cpus,
            max_retries=pool.retries,
        )
        receipts = prepared.map_batches(
            Compute,
            fn_constructor_args=(work, writer, ledger),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(pool.actors, len(todo)), max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            max_restarts=pool.retries,
            max_task_retries=pool.retries,
        )
    try:
        batches: Iterable[pa.Table] = receipts.iter_batches(prefetch_batches=0, batch_size=None, batch_format="pyarrow")  # type: ignore[assignment]
        for batch in batches:
            yield from (Receipt(**_unpack(row)) for row in batch.to_pylist())
    except RayError as error:
        raise _blame(error, ray.get(ledger.unfinished.remote()), pool.retries) from error
    finally:
        ray.kill(ledger)


@dataclass(frozen=True)
class Prepare:
    """The CPU half as a Ray Data function."""

    work: ShardWork
    ledger: Any

    def __call__(self, batch: pa.Table) -> pa.Table:
        (shard,) = batch["shard"].to_pylist()
        # Waited for: a worker that dies in the next moment would take the message with it.
        ray.get(self.ledger.begin.remote(shard))
        with _naming(shard):
            prepared = self.work.prepare(shard)
        return prepared.append_column("shard", pa.array([shard] * prepared.num_rows, pa.int32()))


class Compute:
    """The model half as a Ray Data actor; the model is loaded once.

    Two calls are under way: while one shard's part is written and its receipt is on its way, the next has the model.
    """

    def __init__(self, work: ShardWork, writer: PartWriter, ledger: Any) -> None:
        self.work, self.writer, self.ledger = work, writer, ledger
        self.model, self.turn = work.load(), threading.Lock()

    def __call__(self, batch: pa.Table) -> pa.Table:
        shard = batch["shard"][0].as_py()
        with self.turn:
            # Begun in its turn: a shard that waits is not to blame for a worker that dies.
            ray.get(self.ledger.begin.remote(shard))
            with _naming(shard):
                part = self.work.compute(self.model, batch.drop_columns("shard"))
            self.ledger.end.remote(shard)
        with _naming(shard):
            receipt = self.writer.write(shard, part, self.work.rows[shard])
        return pa.Table.from_pylist([_pack(receipt)])


class _naming:
    """Adds the shard to any error of its computation."""

    def __init__(self, shard: int) -> None:
        self.shard = shard

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            raise ShardError(f"shard {self.shard}: {type(error).__name__}: {error}") from error


def _pack(receipt: Receipt) -> dict[str, Any]:
    """A receipt as one row: counts as text, since a dict would become a struct of all words that are counted."""
    return {name: json.dumps(value) if name in _COUNTS else value for name, value in asdict(receipt).items()}


def _unpack(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.loads(value) if name in _COUNTS else value for name, value in row.items()}


def _blame(error: RayError, unfinished: dict[int, int], retries: int) -> MedsaeError:
    """The error to show: the one that our code raised, or the shard that was begun most often by workers that died."""
    ours = own_error(str(error))
    if ours:
        return ours
    if not unfinished:
        return ShardError(f"the cluster failed: {error}")
    shard = max(unfinished, key=lambda s: unfinished[s])
    return ShardError(
        f"shard {shard}: its worker died {retries + 1} times (allowed retries: {retries}). Memory, or an image that "
        f"crashes a decoder, is the usual cause; unfinished shards: {sorted(unfinished)}"
    )
