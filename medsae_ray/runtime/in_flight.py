"""The Ray tasks that each thread of the driver has asked for, which are those of one stage."""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import ray

_asked: dict[int, Sequence[Any]] = {}
"""Thread -> references of its tasks."""


@contextlib.contextmanager
def in_flight(tasks: Sequence[Any]) -> Iterator[None]:
    """Keep these references, which may change, as those of this thread's tasks for the length of the block."""
    thread = threading.get_ident()
    _asked[thread] = tasks
    try:
        yield
    finally:
        _asked.pop(thread, None)


def unfinished(thread: int) -> int:
    """Count the tasks of a thread that are not finished: queued or running."""
    tasks = list(_asked.get(thread, ()))
    if not tasks:
        return 0
    return len(ray.wait(tasks, num_returns=len(tasks), timeout=0, fetch_local=False)[1])
