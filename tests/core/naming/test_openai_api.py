"""The client of OpenAI's API against a server that plays every part: well, full, gone, refusing."""

import asyncio
import base64
import json
import math
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from medsae_ray.core.naming.engine import Writing
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.core.naming.prompts import DETECTION
from medsae_ray.errors import EngineError
from tests.core.naming.openai_server import IMAGE, answer, ask, engine

pytestmark = pytest.mark.usefixtures("no_pauses")


def test_answers_and_costs_are_read_from_the_reply() -> None:
    asked = ask(engine(answer))
    assert [one.p_yes for one in asked.answers] == pytest.approx([0.75] * 3)
    assert [one.mass for one in asked.answers] == pytest.approx([0.8] * 3)
    assert asked.usage[:4] == (3, 270, 192, 3)


def test_a_question_is_one_image_between_instruction_and_question_and_the_first_goes_alone() -> None:
    bodies: list[dict[str, Any]] = []
    open_now, most = 0, []

    async def serve(request: httpx.Request) -> httpx.Response:
        nonlocal open_now
        open_now += 1
        bodies.append(json.loads(request.content))
        most.append(open_now)
        await asyncio.sleep(0)
        open_now -= 1
        return answer(request)

    ask(engine(serve), 4)  # type: ignore[arg-type]
    instruction, image, question = bodies[0]["messages"][0]["content"]
    assert (instruction["text"], question["text"]) == (DETECTION, "question 0?")
    assert base64.b64decode(image["image_url"]["url"].removeprefix("data:image/png;base64,")) == IMAGE
    assert (bodies[0]["temperature"], bodies[0]["max_tokens"], bodies[0]["top_logprobs"]) == (0, 1, 20)
    assert most[:2] == [1, 1] and max(most) == 3


def test_a_full_server_is_asked_again_when_it_says(no_pauses: list[float]) -> None:
    statuses = iter([429, 503, 200])

    def serve(request: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return answer(request) if status == 200 else httpx.Response(status, headers={"Retry-After": "7"})

    assert ask(engine(serve), 1).answers[0].p_yes == pytest.approx(0.75)
    assert no_pauses == [7.0, 7.0]


def test_a_server_that_stays_away_is_an_error_that_names_it() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused")

    with pytest.raises(EngineError, match=r"http://server/v1 does not answer.*connection refused"):
        ask(engine(serve, patience_s=-1.0))


def test_a_refused_request_fails_alone() -> None:
    def serve(request: httpx.Request) -> httpx.Response:
        return httpx.Response(400, text="too long") if b"question 1" in request.content else answer(request)

    first, second, third = ask(engine(serve)).answers
    assert math.isnan(second.p_yes) and math.isnan(second.mass)
    assert first.p_yes == third.p_yes == pytest.approx(0.75)


@pytest.mark.parametrize(("status", "advice"), [(401, "key is missing or wrong"), (404, "no such model")])
def test_a_wrong_key_or_model_ends_the_run(status: int, advice: str) -> None:
    with pytest.raises(EngineError, match=advice):
        ask(engine(lambda request: httpx.Response(status)))


@pytest.mark.parametrize("asked", ["-5", "nan", "inf", "", "soon", "0", "1e9", "Wed, 21 Oct 2015 07:28:00 GMT", "7, 8"])
def test_a_pause_that_is_none_is_the_usual_one(asked: str, no_pauses: list[float]) -> None:
    statuses = iter([429, 429, 429, 200])

    def serve(request: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return answer(request) if status == 200 else httpx.Response(status, headers={"Retry-After": asked})

    ask(engine(serve), 1)
    assert no_pauses == [0.5, 1.0, 2.0]


@pytest.mark.parametrize("asked", ["-5", "nan", "inf"])
def test_a_bad_pause_makes_no_storm_of_requests(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # real pauses
    seen = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(429, headers={"Retry-After": asked})

    begun = time.monotonic()
    with pytest.raises(EngineError, match="HTTP 429"):
        ask(engine(serve, patience_s=0.6), 1)
    assert time.monotonic() - begun < 3 and 2 <= len(seen) <= 4


def test_a_reply_that_never_comes_to_its_end_is_given_up() -> None:
    class Dripping(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                await asyncio.Event().wait()
                yield b" "

    with pytest.raises(EngineError, match=r"does not answer.*TimeoutError"):
        ask(engine(lambda request: httpx.Response(200, stream=Dripping()), patience_s=0.0, timeout_s=0.05), 1)


def test_a_pause_until_a_date_is_kept_and_none_is_longer_than_there_is_patience(no_pauses: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    headers = iter([soon, "1000000000", "1000000000"])

    def serve(request: httpx.Request) -> httpx.Response:
        asked = next(headers, None)
        return httpx.Response(503, headers={"Retry-After": asked}) if asked else answer(request)

    ask(engine(serve), 1)
    assert 18 < no_pauses[0] <= 20 and no_pauses[1:] == [30.0, 30.0]
    no_pauses.clear()
    busy = httpx.Response(503, headers={"Retry-After": "60"})
    with pytest.raises(EngineError, match="does not answer"):
        ask(engine(lambda request: busy, patience_s=0.05), 1)
    assert max(no_pauses) <= 0.05


def test_the_key_comes_from_the_named_variable_and_its_absence_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret")
    seen = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return answer(request)

    ask(engine(serve, key_variable="SOME_KEY"), 1)
    assert seen == ["Bearer secret"]
    with pytest.raises(EngineError, match="OTHER_KEY"):
        OpenAiEngine("http://server/v1", "tiny", key_variable="OTHER_KEY")


def test_the_identity_is_the_model_and_what_it_is_made_from_never_the_address() -> None:
    cards = {"data": [{"id": "tiny", "root": "/models/tiny-0123"}, {"id": "plain"}]}

    def identity(model: str) -> str:
        made = engine(lambda request: httpx.Response(200, json=cards))
        made.model = model
        asyncio.run(made.check())
        return made.identity

    assert (identity("tiny"), identity("plain")) == ("tiny:tiny-0123", "plain")
    with pytest.raises(EngineError, match=r"no model 'other'; it has \['plain', 'tiny'\]"):
        identity("other")


def test_a_schema_is_sent_as_the_form_of_the_reply() -> None:
    bodies: list[dict[str, Any]] = []

    def serve(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return answer(request)

    wrote = asyncio.run(engine(serve).write(Writing(["Name it.", IMAGE], {"type": "object"}, 7, 0.5, 99)))
    assert wrote.written == ('{"a": 1}', "stop")
    assert bodies[0]["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert (bodies[0]["seed"], bodies[0]["temperature"], bodies[0]["max_tokens"]) == (7, 0.5, 99)


def test_a_chat_goes_through_as_it_is_but_for_the_model() -> None:
    bodies: list[dict[str, Any]] = []

    def serve(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(400, json={"error": {"message": "too long"}})

    status, reply = asyncio.run(engine(serve).chat({"model": "alias", "messages": [], "seed": 3}))
    assert (status, reply) == (400, {"error": {"message": "too long"}})
    assert bodies == [{"model": "tiny", "messages": [], "seed": 3}]
    with pytest.raises(EngineError, match="key is missing or wrong"):
        asyncio.run(engine(lambda request: httpx.Response(401)).chat({}))
