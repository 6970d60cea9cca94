"""What a caller is told when the engine is full, slow or lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.serve.exceptions import BackPressureError, RayServeException

from medsae_ray.core.naming.engine import ONLINE, ImageAnswers, Writing, Wrote
from medsae_ray.errors import EngineError
from medsae_ray.service.engine import Link
from medsae_ray.service.errors import Problem
from tests.core.naming.plain_engine import PlainEngine, brightness
from tests.service.test_app import picture

WRITING = Writing(["Name it."], {"type": "object"}, 0, 0.0, 9)


class Moody(PlainEngine):
    """A plain engine in a mood: `first` is done before every answer."""

    def __init__(self, first: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.first, self.priorities, self.checks = first, list[int](), 0

    async def ask(self, image: bytes, questions: list[str], priority: int) -> ImageAnswers:  # type: ignore[override]
        await self.first()
        self.priorities.append(priority)
        return await super().ask(image, questions, priority)

    async def write(self, writing: Writing, priority: int) -> Wrote:  # type: ignore[override]
        await self.first()
        self.priorities.append(priority)
        return await super().write(writing, priority)

    async def chat(self, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        await self.first()
        return 200, body

    async def stream(self, body: dict[str, Any]) -> AsyncIterator[str]:
        yield "data: 1\n\n"
        await self.first()
        yield "data: 2\n\n"

    async def check(self) -> None:
        self.checks += 1
        await self.first()


def link(engine: Moody, patience_s: float = 5.0) -> Link:
    return Link(lambda: engine, engine.identity, patience_s, retry_s=3)


async def well() -> None:
    return


async def asleep() -> None:
    await asyncio.sleep(5)


def failing(error: Exception) -> Callable[[], Awaitable[None]]:
    async def fail() -> None:
        raise error

    return fail


def test_online_requests_go_before_batch_work() -> None:
    engine = Moody(well)
    asked = asyncio.run(link(engine).ask(picture(51), ["Is it bright?"]))
    assert asked.answers[0].p_yes == pytest.approx(brightness(picture(51)))
    assert asyncio.run(link(engine).write(WRITING)).written.finish == "stop"
    assert asyncio.run(link(engine).chat({"x": 1})) == (200, {"x": 1})
    assert engine.priorities == [ONLINE, ONLINE]


@pytest.mark.parametrize(
    ("first", "code"),
    [
        (asleep, "engine_slow"),
        (failing(BackPressureError(4, 4)), "engine_full"),
        (failing(RayServeException("no replica")), "engine_lost"),
        (failing(EngineError("gone")), "engine_lost"),
    ],
)
def test_a_full_slow_or_lost_engine_says_when_to_come_back(first: Callable[[], Awaitable[None]], code: str) -> None:
    engine = link(Moody(first), patience_s=0.5)
    for call in (lambda: engine.ask(picture(1), ["?"]), lambda: engine.write(WRITING), lambda: engine.chat({})):
        with pytest.raises(Problem) as problem:
            asyncio.run(call())
        assert (problem.value.status, problem.value.code, problem.value.retry_s) == (503, code, 3)


class EngineDeadError(Exception):
    """As vLLM's, by name."""


class Local(Exception):
    """Cannot be pickled, as vLLM's GenerationError cannot."""

    def __reduce__(self) -> Any:
        raise TypeError("no")


def raised(cause: Exception) -> RayTaskError:
    """As Ray hands over what a replica raised."""
    return RayTaskError("chat", "Traceback: /a/path", cause, "replica", 1, "127.0.0.1").as_instanceof_cause()


@pytest.mark.parametrize("cause", [TypeError("a secret"), ValueError("a secret"), KeyError("x"), Local("a secret")])
def test_a_request_that_the_engine_cannot_answer_is_the_callers_mistake(cause: Exception) -> None:
    engine = link(Moody(failing(raised(cause))))
    for call in (lambda: engine.ask(picture(1), ["?"]), lambda: engine.write(WRITING), lambda: engine.chat({})):
        with pytest.raises(Problem) as problem:
            asyncio.run(call())
        found = problem.value
        assert (found.status, found.code, found.retry_s) == (400, "engine_refused", None)
        assert "secret" not in found.message and "/a/path" not in found.message


@pytest.mark.parametrize("cause", [EngineDeadError("x"), EngineError("the files changed"), RayActorError()])
def test_the_end_of_the_engine_is_its_loss_and_no_mistake(cause: Exception) -> None:
    with pytest.raises(Problem) as problem:
        asyncio.run(link(Moody(failing(raised(cause)))).chat({}))
    assert (problem.value.status, problem.value.code, problem.value.retry_s) == (503, "engine_lost", 3)


def test_an_engine_that_answered_a_moment_ago_is_believed_to_be_there() -> None:
    engine = Moody(well)
    asked = link(engine)

    async def thrice() -> None:
        for _ in range(3):
            await asked.check()

    asyncio.run(thrice())
    assert engine.checks == 1


def test_a_stream_has_all_pieces_and_its_loss_in_the_middle_is_a_problem() -> None:
    async def read(engine: Link) -> list[object]:
        return [piece async for piece in engine.stream({})]

    assert asyncio.run(read(link(Moody(well)))) == ["data: 1\n\n", "data: 2\n\n"]
    for first, code in ((failing(raised(EngineDeadError("x"))), "engine_lost"), (asleep, "engine_slow")):
        lost = link(Moody(first), patience_s=0.5)
        with pytest.raises(Problem) as problem:
            asyncio.run(read(lost))
        assert problem.value.code == code
        assert f'outcome="{code}"}} 1.0' in lost.metrics.text().decode()


def test_a_lost_engine_is_not_believed_to_be_well() -> None:
    mood = [well, failing(EngineError("gone"))]
    engine = Moody(lambda: mood[0]())
    asked = link(engine)

    async def lose() -> None:
        await asked.check()
        mood.pop(0)
        with pytest.raises(Problem):
            await asked.chat({})
        with pytest.raises(Problem):
            await asked.check()

    asyncio.run(lose())
