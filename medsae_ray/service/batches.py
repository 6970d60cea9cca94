"""Requests that wait are computed in one batch: a batch is whatever has come while the one before was computed.

So a single request waits for nobody, and no time has to be chosen for which a batch stays open.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from functools import partial
from typing import Generic, NamedTuple, TypeVar

A = TypeVar("A")
B = TypeVar("B")


class _Asked(NamedTuple):
    item: object
    loop: asyncio.AbstractEventLoop
    answer: "asyncio.Future[object]"


class Batches(Generic[A, B]):
    """`compute` applied to items of many callers by `workers` threads, at most `most` items at once.

    `compute` returns a result for each item, or an exception for one that is at fault; `done` gets the size of each
    batch.
    """

    def __init__(
        self,
        compute: Callable[[Sequence[A]], Sequence[B | Exception]],
        most: int,
        workers: int,
        done: Callable[[int], None] = lambda size: None,
    ) -> None:
        self._compute, self._most, self._workers, self._done = compute, most, workers, done
        self._waiting: queue.SimpleQueue[_Asked] = queue.SimpleQueue()
        for number in range(workers):
            threading.Thread(target=self._work, name=f"batch-{number}", daemon=True).start()

    @property
    def waiting(self) -> int:
        """The items that no worker has taken yet."""
        return self._waiting.qsize()

    async def add(self, prepare: Callable[[], A], threads: Executor) -> B:
        """Return the result of the item that `prepare` makes in one of the threads, or raise the exception of either.

        The thread hands the item on by itself: the way back through the event loop would be one more change of threads.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[object] = loop.create_future()
        done = loop.run_in_executor(threads, self._prepare, prepare, loop, answer)
        done.add_done_callback(partial(_fail, answer))
        try:
            return await answer  # type: ignore[return-value]
        finally:
            del answer, done  # see _prepare

    def _prepare(
        self, prepare: Callable[[], A], loop: asyncio.AbstractEventLoop, answer: "asyncio.Future[object]"
    ) -> None:
        """Make an item and hand it on. An exception, which the future will hold, has this frame in its traceback, and
        those of callers who hold the uploaded file: they would hold each other until Python looks for cycles."""
        try:
            if not answer.cancelled():
                self._waiting.put(_Asked(prepare(), loop, answer))
        finally:
            del answer

    def _work(self) -> None:
        while True:
            asked = [one for one in self._next() if not one.answer.cancelled()]
            if not asked:
                continue
            try:
                results = self._compute([one.item for one in asked])  # type: ignore[misc]
            except Exception as error:
                results = [error] * len(asked)
            self._done(len(asked))
            for one, result in zip(asked, results, strict=True):
                one.loop.call_soon_threadsafe(_deliver, one.answer, result)

    def _next(self) -> list[_Asked]:
        """Wait for an item, and return it with this worker's share of those that wait behind it."""
        asked = [self._waiting.get()]
        share = min(self._most, -(-(self._waiting.qsize() + 1) // self._workers))
        try:
            while len(asked) < share:
                asked.append(self._waiting.get_nowait())
        except queue.Empty:  # another worker was faster
            pass
        return asked


def _fail(answer: "asyncio.Future[object]", prepared: "asyncio.Future[None]") -> None:
    if not prepared.cancelled() and (error := prepared.exception()) is not None and not answer.done():
        answer.set_exception(error)


def _deliver(answer: "asyncio.Future[object]", result: object) -> None:
    if answer.done():
        return
    if isinstance(result, Exception):
        answer.set_exception(result)
    else:
        answer.set_result(result)
