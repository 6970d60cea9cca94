"""The mapping of a shard's work over a cluster with Ray Data, or in a plain loop, with the same parts.

One shard is one Ray Data block from reading to writing. A worker writes its own part and passes on only the receipt,
so no image or embedding ever goes through the driver.
"""

import contextlib
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

from medsae_ray.cluster.joining import own_error
from medsae_ray.config import Pool
from medsae_ray.core.artifacts.artifact import PartWriter, Receipt
from medsae_ray.core.artifacts.work import ShardWork
from medsae_ray.core.images.unreadable import nothing_usable
from medsae_ray.errors import ShardError
from medsae_ray.runtime.tries import COMPUTING, LOADING, READING, Tries

_COUNTS = ("not_ok", "noted")


def map_shards(work: ShardWork, writer: PartWriter, todo: list[int], pool: Pool, engine: str) -> Iterator[Receipt]:
    """Compute and write the parts `todo`; yields each receipt as its part appears.

    Raises ShardError naming the shard if its computation raises, or if its worker dies more often than pool.retries
    on nodes that stay up; work lost with a node is computed again, without limit.
    """
    if not todo:
        return iter(())
    return _loop(work, writer, todo) if engine == "loop" else _ray(work, writer, todo, pool)


def _loop(work: ShardWork, writer: PartWriter, todo: list[int]) -> Iterator[Receipt]:
    model = work.load()
    for shard in todo:
        with _naming(shard):
            yield writer.write(shard, work.compute(model, work.prepare(shard)), work.rows[shard])


def _ray(work: ShardWork, writer: PartWriter, todo: list[int], pool: Pool) -> Iterator[Receipt]:
    with Tries(pool.retries).kept() as tries:
        try:
            batches: Iterable[pa.Table] = _mapped(work, writer, todo, pool, tries).iter_batches(
                prefetch_batches=0, batch_size=None, batch_format="pyarrow"
            )
            for batch in batches:
                yield from (Receipt(**_unpack(row)) for row in batch.to_pylist())
        except RayError as error:
            raise own_error(str(error)) or ShardError(f"the cluster failed: {error}") from error


def _mapped(work: ShardWork, writer: PartWriter, todo: list[int], pool: Pool, tries: Tries) -> ray.data.Dataset:
    """Return receipts of the parts. Work lost with a worker or a node is retried until `tries` ends it."""
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
            Prepare(work, tries),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=pool.reader_cpus,
            max_retries=-1,
        )
        return prepared.map_batches(
            Compute,
            fn_constructor_args=(work, writer, tries),
            batch_size=None,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(
                size=min(pool.actors, len(todo)), max_concurrent_calls_per_actor=2, enable_true_multi_threading=True
            ),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            max_restarts=-1,
            max_task_retries=-1,
        )


@dataclass(frozen=True)
class Prepare:
    """The CPU half as a Ray Data function."""

    work: ShardWork
    tries: Tries

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Prepare the shard that the batch's one row names, and append its number as a column."""
        (shard,) = batch["shard"].to_pylist()
        self.tries.begin(_piece(shard), READING)  # ended by its receiver: to hand it over takes memory too
        with _naming(shard):
            prepared = self.work.prepare(shard)
        return prepared.append_column("shard", pa.array([shard] * prepared.num_rows, pa.int32()))


class Compute:
    """The model half as a Ray Data actor; the model is loaded once.

    Two calls overlap: while one shard's part is written and its receipt returned, the next has the model.
    """

    def __init__(self, work: ShardWork, writer: PartWriter, tries: Tries) -> None:
        self.work, self.writer, self.tries = work, writer, tries
        actor = f"actor {ray.get_runtime_context().get_actor_id()}"  # the same after a restart
        tries.begin(actor, LOADING)
        self.model, self.turn = work.load(), threading.Lock()
        tries.end(actor, LOADING)

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Compute and write the part of a prepared shard; return its receipt as a table."""
        shard = batch["shard"][0].as_py()
        piece = _piece(shard)
        with contextlib.ExitStack() as turn:
            turn.enter_context(self.turn)
            # Begun in its turn: a shard that waits is not to blame for a worker that dies.
            suspect = self.tries.begin(piece, COMPUTING)
            self.tries.end(piece, READING)
            if (suspect or self.tries.was_written(piece)) and (written := self._written(shard)):
                self.tries.end(piece, COMPUTING)
                return _row(written)
            with _naming(shard):
                part = self.work.compute(self.model, batch.drop_columns("shard"))
            if not suspect:  # one that may have killed a worker runs alone to the end, so that no other is blamed
                turn.close()
            with _naming(shard):
                receipt = self.writer.write(shard, part, self.work.rows[shard])
            self.tries.written(piece)
            self.tries.end(piece, COMPUTING)
        return _row(receipt)

    def _written(self, shard: int) -> Receipt | None:
        """Find the part of a worker whose receipt was lost with it."""
        found = self.writer.finished({shard: self.work.rows[shard]}).get(shard)
        return None if found is None or nothing_usable(found) else found


def _piece(shard: int) -> str:
    return f"shard {shard}"


class _naming:
    """A context that adds the shard to any error of its computation."""

    def __init__(self, shard: int) -> None:
        self.shard = shard

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception):
            raise ShardError(f"shard {self.shard}: {type(error).__name__}: {error}") from error


def _row(receipt: Receipt) -> pa.Table:
    return pa.Table.from_pylist([_pack(receipt)])


def _pack(receipt: Receipt) -> dict[str, Any]:
    """Pack a receipt into one row: counts as text, since a dict would become a struct of all counted words."""
    return {name: json.dumps(value) if name in _COUNTS else value for name, value in asdict(receipt).items()}


def _unpack(row: dict[str, Any]) -> dict[str, Any]:
    return {name: json.loads(value) if name in _COUNTS else value for name, value in row.items()}
