"""The progress of training, from the worker to the terminal: epoch, FVU, L0 and dead features.

The first worker puts its newest epoch into the cluster's key-value store, at most once a second and without waiting for
other workers; the driver reads it there. Ray Train's own reports are barriers between the workers, which an epoch of
milliseconds cannot afford.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator

from medsae_ray.cluster.ray_private import kv_delete, kv_get, kv_put
from medsae_ray.core.sae.training import EpochLog
from medsae_ray.runtime.board import Bar

EACH_S = 1.0
"""The seconds between two reads, and between two messages."""
Tell = Callable[[EpochLog], None]


def show(bar: Bar, entry: EpochLog) -> None:
    """Set a bar of epochs to an epoch's log."""
    bar.reach(entry.epoch, epoch=entry.epoch, fvu=entry.fvu, l0=entry.l0, dead=entry.dead_share)


def teller(key: str) -> Tell:
    """Return a function for the worker that publishes its newest epoch under `key`."""
    told = -EACH_S

    def tell(entry: EpochLog) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told >= EACH_S:
            told = now
            with contextlib.suppress(Exception):  # a training without a display goes on
                kv_put(key, json.dumps(entry._asdict()).encode())

    return tell


@contextlib.contextmanager
def watched(key: str, bar: Bar) -> Iterator[None]:
    """Let `bar` follow the epochs published under `key` for the length of the block, on the driver."""
    over = threading.Event()

    def follow() -> None:
        while not over.wait(EACH_S):
            with contextlib.suppress(Exception):
                told = kv_get(key)
                if told:
                    show(bar, EpochLog(**json.loads(told)))

    thread = threading.Thread(target=follow, name="training-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        with contextlib.suppress(Exception):
            kv_delete(key)
