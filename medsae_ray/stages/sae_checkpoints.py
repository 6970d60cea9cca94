"""The schedule and the files of training checkpoints, and the search for the newest whole one."""

import io
import time
from collections.abc import Callable
from typing import Any

import torch

from medsae_ray.core.artifacts.artifact import sha256
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.distributed import Ranks

EACH_S = 30.0
"""The most seconds of training that a lost worker costs, plus one epoch. All workers wait for a checkpoint to be
written, which on an object store takes longer than many epochs of a small table."""


class Pace:
    """The schedule of checkpoints: after a number of epochs or, if that is None, after EACH_S seconds.

    All ranks follow the clock of the first, since all have to take part in a checkpoint.
    """

    def __init__(
        self, epochs: int | None, ranks: Ranks, device: str = "cpu", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.epochs, self.ranks, self.device, self.clock = epochs, ranks, device, clock
        self.last = clock()

    def due(self, epoch: int) -> bool:
        """Return True if a checkpoint is due after `epoch` epochs; every rank has to call it, and all get the same
        answer."""
        if self.epochs is not None:
            return epoch % self.epochs == 0
        now = self.clock()
        if due := bool(self.ranks.first(torch.tensor([now - self.last >= EACH_S], device=self.device))):
            self.last = now
        return due


def to_bytes(value: Any) -> bytes:
    """Serialise with torch.save."""
    stream = io.BytesIO()
    torch.save(value, stream)
    return stream.getvalue()


def from_bytes(name: str, data: bytes) -> Any | None:
    """Load the value that `to_bytes` wrote to a file whose name ends in the checksum; None if the file is torn."""
    return torch.load(io.BytesIO(data), weights_only=True) if name.endswith(sha256(data)) else None


def saver(attempts: Store, attempt: str, epochs: int) -> Callable[..., None]:
    """Return a function that keeps the newest checkpoint of an attempt, where `newest` finds it, and none after the
    last epoch."""
    kept: list[str] = []

    def save(epoch: int, state: Callable[[], dict[str, Any]]) -> None:
        if epoch == epochs:
            return
        data, folder = to_bytes(state()), f"{attempt}/epoch-{epoch:06d}"
        attempts.write(f"{folder}/state-{sha256(data)}", data)
        kept.append(folder)
        if len(kept) > 1:
            attempts.delete_folder(kept.pop(0))

    return save


def newest(attempts: Store) -> str | None:
    """Find the file of the latest whole checkpoint of all earlier attempts."""
    folders = [f"{attempt}/{epoch}" for attempt in attempts.folders() for epoch in attempts.folders(attempt)]
    for folder in sorted((f for f in folders if "/epoch-" in f), key=lambda f: f.rsplit("/", 1)[1], reverse=True):
        for name in attempts.names(folder):
            if name.startswith("state-") and from_bytes(name, attempts.read(f"{folder}/{name}")) is not None:
                return f"{folder}/{name}"
    return None


def read_state(attempts: Store, file: str | None) -> dict[str, Any] | None:
    """Read the state in a checkpoint's file that `newest` found."""
    return from_bytes(file, attempts.read(file)) if file else None


def newest_state(attempts: Store) -> dict[str, Any] | None:
    """Read the latest whole checkpoint of all earlier attempts."""
    return read_state(attempts, newest(attempts))
