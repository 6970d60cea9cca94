"""Shard work that takes its time and notes when. Importable by Ray's workers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from medsae_ray.core.artifacts.artifact import PartWriter, Receipt

SCHEMA = pa.schema([pa.field("shard", pa.int32(), nullable=False)])


@contextmanager
def noted(log: Path, what: str, shard: int, seconds: float) -> Iterator[None]:
    """A line of `log`: what, shard, start, end."""
    start = time.time()
    time.sleep(seconds)
    yield
    with log.open("a") as stream:
        stream.write(f"{what} {shard} {start} {time.time()}\n")


def spans(log: Path, what: str) -> list[tuple[float, float]]:
    """(start, end), by start."""
    lines = [line.split() for line in log.read_text().splitlines()]
    return sorted((float(start), float(end)) for kind, _, start, end in lines if kind == what)


@dataclass(frozen=True)
class Noted:
    """One row per shard, `seconds` for each half."""

    log: Path
    shards: int
    prepare_s: float
    compute_s: float

    @property
    def rows(self) -> dict[int, int]:
        return dict.fromkeys(range(self.shards), 1)

    def load(self) -> None:
        return None

    def prepare(self, shard: int) -> pa.Table:
        with noted(self.log, "prepare", shard, self.prepare_s):
            return pa.table({"number": [shard]})

    def compute(self, model: None, prepared: pa.Table) -> pa.Table:
        shard = prepared["number"][0].as_py()
        with noted(self.log, "compute", shard, self.compute_s):
            return pa.table({"shard": pa.array([shard], pa.int32())}, schema=SCHEMA)


@dataclass(frozen=True)
class Meeting(Noted):
    """Its first shards are prepared together if they may be: each waits for another, at most a minute."""

    def prepare(self, shard: int) -> pa.Table:
        begun = self.log.with_name(f"{self.log.name}-begun")
        begun.mkdir(exist_ok=True)
        (begun / str(shard)).touch()
        with noted(self.log, "prepare", shard, self.prepare_s):
            until = time.monotonic() + 60
            while len(list(begun.iterdir())) < min(2, self.shards) and time.monotonic() < until:
                time.sleep(0.02)
            return pa.table({"number": [shard]})


@dataclass(frozen=True)
class SlowWriter(PartWriter):
    """A store that takes its time."""

    log: Path = Path()
    seconds: float = 0.0

    def write(self, shard: int, table: pa.Table, expected_rows: int) -> Receipt:
        with noted(self.log, "write", shard, self.seconds):
            return super().write(shard, table, expected_rows)
