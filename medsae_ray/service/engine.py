"""The engine as online requests reach it: ahead of batch work, and never waited for longer than a caller waits."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol, TypeVar

from ray import serve
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.serve.exceptions import BackPressureError, RayServeException

from medsae_ray.config import Vlm
from medsae_ray.core.naming.engine import ONLINE, ImageAnswers, Writing, Wrote
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.engine.client import APPLICATION
from medsae_ray.errors import EngineError
from medsae_ray.service.errors import Problem

T = TypeVar("T")

READY_S = 5.0
"""How long the engine may take to say that it is there,"""
FRESH_S = 2.0
"""and how long that is believed."""


class Asker(Protocol):
    """The requests that both kinds of engine answer."""

    async def ask(self, image: bytes, questions: list[str], priority: int) -> ImageAnswers:
        """As `Engine.ask` of core/naming/engine.py."""
        ...

    async def write(self, writing: Writing, priority: int) -> Wrote:
        """As `Engine.write` of core/naming/engine.py."""
        ...

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Pass on a request of OpenAI's chat API: HTTP status and body."""
        ...

    async def answers(self) -> None:
        """Return if the engine can be reached."""


class Link:
    """Asks at priority ONLINE. A full, slow or lost engine is a Problem at once, and the caller retries."""

    def __init__(self, engine: Asker, identity: str, patience_s: float, retry_s: int) -> None:
        self.engine, self.identity, self.patience_s, self.retry_s = engine, identity, patience_s, retry_s
        self._well = -FRESH_S

    async def ask(self, image: bytes, questions: list[str]) -> ImageAnswers:
        """As `Engine.ask`, ahead of batch work. Problem if there is no answer in time."""
        return await self._within(self.patience_s, lambda: self.engine.ask(image, questions, ONLINE))

    async def write(self, writing: Writing) -> Wrote:
        """As `Engine.write`, ahead of batch work. Problem if there is no answer in time."""
        return await self._within(self.patience_s, lambda: self.engine.write(writing, ONLINE))

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Pass on a request of OpenAI's chat API, whose own priority is ONLINE: HTTP status and body."""
        return await self._within(self.patience_s, lambda: self.engine.chat(body))

    async def check(self) -> None:
        """Problem unless the engine answers, or did a moment ago."""
        if time.monotonic() - self._well > FRESH_S:
            await self._within(READY_S, self.engine.answers)
            self._well = time.monotonic()

    async def _within(self, seconds: float, call: Callable[[], Awaitable[T]]) -> T:
        try:
            async with asyncio.timeout(seconds):
                return await call()
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
        return self._problem("engine_lost", "the vision-language engine does not run")

    def _problem(self, code: str, message: str) -> Problem:
        return Problem(503, code, message, retry_s=self.retry_s)


def _is_lost(error: RayTaskError) -> bool:
    """Whether what the replica raised is the end of the engine, and not a fault of the request."""
    cause = error.cause
    if type(cause) is RayError:  # Ray's stand-in for what cannot be pickled
        return "EngineDead" in str(cause)
    return isinstance(cause, EngineError | RayError) or "EngineDead" in type(cause).__name__


def _short(error: RayTaskError) -> str:
    """The name of what was raised, without its text, which may repeat what the caller sent or paths."""
    return f"the engine cannot answer this request ({type(error.cause).__name__})"


class ClusterEngine:
    """The engine's application on this cluster, found when it is first needed."""

    def __init__(self) -> None:
        self._handle: Any = None

    async def ask(self, image: bytes, questions: list[str], priority: int) -> ImageAnswers:
        """As `Asker.ask`, by a replica."""
        answers: ImageAnswers = await (await self._found()).ask.remote(image, questions, priority)
        return answers

    async def write(self, writing: Writing, priority: int) -> Wrote:
        """As `Asker.write`, by a replica."""
        wrote: Wrote = await (await self._found()).write.remote(writing, priority)
        return wrote

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """As `Asker.chat`, by a replica."""
        reply: tuple[int, dict[str, Any]] = await (await self._found()).chat.remote(body)
        return reply

    async def answers(self) -> None:
        """Return once a replica has answered."""
        await (await self._found()).identity.remote()

    async def _found(self) -> Any:
        if self._handle is None:
            self._handle = await asyncio.to_thread(serve.get_app_handle, APPLICATION)
        return self._handle


class UrlEngine:
    """The engine behind a URL. Its own patience is short here: the caller is told to retry instead."""

    def __init__(self, vlm: Vlm, patience_s: float) -> None:
        assert vlm.url is not None, "this kind of engine has one"
        self._open = partial(OpenAiEngine, vlm.url, vlm.model, vlm.key_variable, patience_s, patience_s)
        self._engine: OpenAiEngine | None = None

    async def ask(self, image: bytes, questions: list[str], priority: int) -> ImageAnswers:
        """As `Asker.ask`, by the server behind the URL, to which the priority means nothing."""
        return await self._found().ask(image, questions, priority)

    async def write(self, writing: Writing, priority: int) -> Wrote:
        """As `Asker.write`, by the server behind the URL, to which the priority means nothing."""
        return await self._found().write(writing, priority)

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """As `Asker.chat`, by the server behind the URL."""
        return await self._found().chat(body)

    async def answers(self) -> None:
        """Return if the server lists the model. Raises EngineError if not."""
        await self._found().connect()

    def _found(self) -> OpenAiEngine:
        if self._engine is None:
            self._engine = self._open()
        return self._engine
