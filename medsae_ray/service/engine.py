"""The engine for online requests: ahead of batch work, and with no longer wait than the caller's."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException

from medsae_ray.core.naming.engine import ONLINE, Event, ImageAnswers, StreamingEngine, Writing, Wrote
from medsae_ray.core.naming.server_choice import read_usage
from medsae_ray.errors import EngineError
from medsae_ray.service.errors import Problem
from medsae_ray.service.metrics import Metrics

T = TypeVar("T")

READY_S = 3.0
"""The seconds in which the engine has to say that it is ready."""
FRESH_S = 1.0
"""The seconds for which that answer is believed; both together are the longest that a lost engine counts as ready."""


class Link:
    """An `Engine` that asks at priority ONLINE. A full, slow or lost one is a Problem at once, and the caller retries.

    `find` returns the engine when it is first needed.
    """

    def __init__(self, find: Callable[[], StreamingEngine], identity: str, patience_s: float, retry_s: int) -> None:
        self.find, self.identity, self.patience_s, self.retry_s = find, identity, patience_s, retry_s
        self.metrics = Metrics()
        """Where calls are counted; the desk puts its own here."""
        self._engine: StreamingEngine | None = None
        self._well = -FRESH_S

    async def ask(self, image: bytes, questions: list[str], priority: int = ONLINE) -> ImageAnswers:
        """Ask as `Engine.ask`, ahead of batch work. Problem if there is no answer in time."""
        answers = await self._counted("ask", lambda engine: engine.ask(image, questions, priority))
        self.metrics.spent(answers.usage)
        return answers

    async def write(self, writing: Writing, priority: int = ONLINE) -> Wrote:
        """Write as `Engine.write`, ahead of batch work. Problem if there is no answer in time."""
        wrote = await self._counted("write", lambda engine: engine.write(writing, priority))
        self.metrics.spent(wrote.usage)
        return wrote

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Chat as `Engine.chat`, whose own priority is ONLINE. Problem if there is no answer in time."""
        status, reply = await self._counted("chat", lambda engine: engine.chat(body))
        self.metrics.spent(read_usage(reply, 0.0))
        return status, reply

    async def check(self) -> None:
        """Raise Problem unless the engine answers, or did a moment ago."""
        if time.monotonic() - self._well > FRESH_S:
            await self._within(READY_S, lambda engine: engine.check())
            self._well = time.monotonic()

    async def _found(self) -> StreamingEngine:
        if self._engine is None:
            found = await asyncio.to_thread(self.find)
            self._engine = self._engine or found
        return self._engine

    async def stream(self, body: dict[str, Any]) -> AsyncGenerator[Event, None]:
        """Stream as `Engine.stream`. Problem if the next piece does not come in time."""
        with self._counting("stream"):
            async with contextlib.aclosing(await self._within(READY_S, _streaming(body))) as events:
                while (event := await self._within(self.patience_s, lambda _: anext(events, None))) is not None:
                    yield event

    async def _counted(self, call: str, do: Callable[[StreamingEngine], Awaitable[T]]) -> T:
        with self._counting(call):
            return await self._within(self.patience_s, do)

    @contextlib.contextmanager
    def _counting(self, call: str) -> Iterator[None]:
        """Count a call of the engine, its outcome and its time."""
        begun, outcome = time.monotonic(), "cancelled"
        self.metrics.engine_under_way.inc()
        try:
            yield
            outcome = "ok"
        except Problem as problem:
            outcome = problem.code
            raise
        finally:
            self.metrics.engine_under_way.dec()
            self.metrics.engine_calls.labels(call, outcome).inc()
            self.metrics.engine_seconds.labels(call).observe(time.monotonic() - begun)

    async def _within(self, seconds: float, call: Callable[[StreamingEngine], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await call(await self._found())
        except BackPressureError:
            raise self._problem("engine_full", "the vision-language engine has as much as it can take") from None
        except TimeoutError:
            raise self._problem("engine_slow", f"the vision-language engine took over {seconds:g} s") from None
        except RayTaskError as error:
            if _is_lost(error):
                raise self._lost() from None
            # Raised by the code that works on this request, in a replica that goes on: asking again would not help.
            raise Problem(400, "engine_refused", _short(error), "body") from None
        except (RayError, RayServeException, TaskCancelledError, EngineError):
            raise self._lost() from None

    def _lost(self) -> Problem:
        self._well = -FRESH_S
        return self._problem("engine_lost", "the vision-language engine does not run")

    def _problem(self, code: str, message: str) -> Problem:
        return Problem(503, code, message, retry_s=self.retry_s)


def _streaming(body: dict[str, Any]) -> Callable[[StreamingEngine], Awaitable[AsyncGenerator[Event, None]]]:
    async def start(engine: StreamingEngine) -> AsyncGenerator[Event, None]:
        return engine.stream(body)

    return start


def _is_lost(error: RayTaskError) -> bool:
    """Return True if the replica's error is the end of the engine, and not a fault of the request."""
    cause = error.cause
    if type(cause) is RayError:  # Ray's substitute for an error that cannot be pickled
        return "EngineDead" in str(cause)
    return isinstance(cause, EngineError | RayError) or "EngineDead" in type(cause).__name__


def _short(error: RayTaskError) -> str:
    """Return the type of the error without its text, which may repeat the caller's input or paths."""
    return f"the engine cannot answer this request ({type(error.cause).__name__})"
