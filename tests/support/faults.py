"""Shard work that fails on purpose. Importable by Ray's workers."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from medsae_ray.core.artifacts.work import ShardWork


@dataclass(frozen=True)
class Killer:
    """Does another's work, but SIGKILLs its own process on `shard`: each time, or once if `once` names a file."""

    work: ShardWork
    shard: int
    half: str
    once: Path | None = None

    @property
    def rows(self) -> dict[int, int]:
        return self.work.rows

    def load(self) -> Any:
        return self.work.load()

    def prepare(self, shard: int) -> pa.Table:
        if self.half == "prepare":
            self._strike(shard)
        return self.work.prepare(shard).append_column("number", pa.array([shard] * self.rows[shard]))

    def compute(self, model: Any, prepared: pa.Table) -> pa.Table:
        if self.half == "compute":
            self._strike(prepared["number"][0].as_py())
        return self.work.compute(model, prepared.drop_columns("number"))

    def _strike(self, shard: int) -> None:
        if shard != self.shard or (self.once and self.once.exists()):
            return
        if self.once:
            self.once.write_text("struck")
        os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Raiser(Killer):
    """Raises instead."""

    def _strike(self, shard: int) -> None:
        if shard == self.shard:
            raise ValueError("a fault of its own")
