"""The client of OpenAI's API against a server that plays every part: well, full, gone, refusing."""

import asyncio
import base64
import json
import math
import re
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest

from medsae_ray.core.naming.engine import Asked, Writing
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.core.naming.prompts import DETECTION
from medsae_ray.errors import EngineError

IMAGE = b"\x89PNG picture"


def engine(serve: Callable[[httpx.Request], httpx.Response], **options: Any) -> OpenAiEngine:
    made = OpenAiEngine("http://server/v1/", "tiny", **options)
    made.http = httpx.AsyncClient(transport=httpx.MockTransport(serve), headers=made.http.headers)
    return made


def answer(request: httpx.Request, p_yes: float = 0.75) -> httpx.Response:
    """As a server that is sure: 80 % of the mass on yes and no."""
    likely = {"Yes": 0.8 * p_yes, " no": 0.8 * (1 - p_yes), "well": 0.2}
    content = [{"top_logprobs": [{"token": token, "logprob": math.log(p)} for token, p in likely.items()]}]
    usage = {"prompt_tokens": 90, "completion_tokens": 1, "prompt_tokens_details": {"cached_tokens": 64}}
    choice = {"message": {"content": '{"a": 1}'}, "finish_reason": "stop", "logprobs": {"content": content}}
    return httpx.Response(200, json={"choices": [choice], "usage": usage})


def ask(made: OpenAiEngine, questions: int = 3) -> Asked:
    return asyncio.run(made.ask(IMAGE, [f"question {i}?" for i in range(questions)]))


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def fast(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", fast)
    return pauses


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


def test_a_full_server_is_asked_again_when_it_says(_no_pauses: list[float]) -> None:
    statuses = iter([429, 503, 200])

    def serve(request: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return answer(request) if status == 200 else httpx.Response(status, headers={"Retry-After": "7"})

    assert ask(engine(serve), 1).answers[0].p_yes == pytest.approx(0.75)
    assert _no_pauses == [7.0, 7.0]


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
def test_a_pause_that_is_none_is_the_usual_one(asked: str, _no_pauses: list[float]) -> None:
    statuses = iter([429, 429, 429, 200])

    def serve(request: httpx.Request) -> httpx.Response:
        status = next(statuses)
        return answer(request) if status == 200 else httpx.Response(status, headers={"Retry-After": asked})

    ask(engine(serve), 1)
    assert _no_pauses == [0.5, 1.0, 2.0]


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


def test_a_pause_until_a_date_is_kept_and_none_is_longer_than_there_is_patience(_no_pauses: list[float]) -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    headers = iter([soon, "1000000000", "1000000000"])

    def serve(request: httpx.Request) -> httpx.Response:
        asked = next(headers, None)
        return httpx.Response(503, headers={"Retry-After": asked}) if asked else answer(request)

    ask(engine(serve), 1)
    assert 18 < _no_pauses[0] <= 20 and _no_pauses[1:] == [30.0, 30.0]
    _no_pauses.clear()
    with pytest.raises(EngineError, match="does not answer"):
        busy = httpx.Response(503, headers={"Retry-After": "60"})
        ask(engine(lambda request: busy, patience_s=0.05), 1)
    assert max(_no_pauses) <= 0.05


def bodies(*replies: Any) -> Callable[[httpx.Request], httpx.Response]:
    """A server that gives these bodies in turn, with HTTP 200, and the last one for ever."""
    left = list(replies)

    def serve(request: httpx.Request) -> httpx.Response:
        body = left.pop(0) if len(left) > 1 else left[0]
        return httpx.Response(200, json=body) if not isinstance(body, bytes) else httpx.Response(200, content=body)

    return serve


WELL = json.loads(answer(httpx.Request("GET", "http://server")).content)


def without(value: Any) -> dict[str, Any]:
    return {"choices": [{"message": {"content": "Yes"}, "logprobs": value}]}


def test_an_error_inside_a_200_is_asked_again_or_fails_alone() -> None:
    busy = {"error": {"message": "Provider returned error", "code": 502}}
    assert ask(engine(bodies(busy, busy, WELL)), 1).answers[0].p_yes == pytest.approx(0.75)
    nothing = [
        {"choices": None},
        {"choices": None, "top_logprobs": 5},
        {"choices": []},
        {"choices": [None]},
        {"error": "x"},
        [],
        b"{",
        b"",
        {"detail": "x"},
    ]
    for body in nothing:
        (failed,) = ask(engine(bodies(body)), 1).answers
        assert math.isnan(failed.p_yes) and math.isnan(failed.mass) and failed.failed


@pytest.mark.parametrize("lacking", [None, {}, {"content": None}, {"content": [{"token": "Yes", "logprob": -0.1}]}])
def test_a_server_without_log_probabilities_ends_the_run_at_its_first_answer(lacking: Any) -> None:
    with pytest.raises(EngineError, match=r"http://server/v1 gives no log-probabilities for 'tiny' \('.*use a server"):
        ask(engine(bodies(without(lacking))))


def test_one_answer_without_log_probabilities_fails_alone_where_others_have_them() -> None:
    first, second = ask(engine(bodies(WELL, without(None))), 2).answers
    assert first.failed is None and second.failed is not None and "'logprobs' is null" in second.failed


def test_a_server_that_allows_five_log_probabilities_is_asked_for_five() -> None:
    asked: list[int] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content)["top_logprobs"])
        if asked[-1] > 5:
            return httpx.Response(400, json={"error": {"message": "top_logprobs must be at most 5, got 20"}})
        return answer(request)

    assert [one.failed for one in ask(engine(serve)).answers] == [None] * 3
    assert asked == [20, 5, 5, 5]
    no = httpx.Response(400, json={"error": {"message": "logprobs is not supported by this model"}})
    with pytest.raises(EngineError, match="gives no log-probabilities"):
        ask(engine(lambda request: no))


def test_a_model_that_says_neither_yes_nor_no_has_not_answered() -> None:
    thinking = without({"content": [{"top_logprobs": [{"token": "<think>", "logprob": 0.0}]}]})
    (one,) = ask(engine(bodies(thinking)), 1).answers
    assert math.isnan(one.p_yes) and one.mass == 0 and one.failed and "neither yes nor no" in one.failed


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (httpx.Response(402, json={"error": {"message": "Insufficient credits"}}), "no money.*Insufficient credits"),
        (httpx.Response(429, json={"error": {"code": "insufficient_quota"}}), "no money or quota"),
        (httpx.Response(200, json={"error": {"code": 402, "message": "x"}}), "no money or quota"),
        (httpx.Response(200, html="<html><title>Sign in</title>"), r"a web page \(Sign in\)"),
        (httpx.Response(307, headers={"Location": "https://login/x?token=1"}), r"sends us to https://login/x \("),
        (httpx.Response(200, content=bytes(9 * 2**20)), "more than 8388608 bytes"),
    ],
)
def test_what_no_request_can_mend_ends_the_run_in_the_servers_words(response: httpx.Response, said: str) -> None:
    seen = []

    def serve(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return response

    with pytest.raises(EngineError, match=f"^http://server/v1 .*{said}"):
        ask(engine(serve))
    assert len(seen) == 1


def test_no_message_repeats_the_key_or_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-very-secret\n")
    refused = httpx.Response(401, json={"error": {"message": "Incorrect API key provided: sk-very-secret"}})
    made = engine(lambda request: refused, key_variable="SOME_KEY")
    made.url = "http://me:pa@ss@server/v1?key=pass@"
    with pytest.raises(EngineError, match=r"^http://server/v1 .*provided: \*\*\*\)") as error:
        ask(made)
    assert "secret" not in str(error.value) and "ss@" not in str(error.value)
    monkeypatch.setenv("SOME_KEY", "sk-ünusable")
    with pytest.raises(EngineError, match="SOME_KEY has characters") as error:
        OpenAiEngine("http://server/v1", "tiny", key_variable="SOME_KEY")
    assert "nusable" not in str(error.value)


@pytest.mark.parametrize("url", ["server/v1", "", "ftp://server/v1", "http://[::1/v1", "http://xn--.org/v1"])
def test_an_address_that_is_none_is_said_at_once(url: str) -> None:
    made = OpenAiEngine(url, "tiny")
    with pytest.raises(EngineError, match=r"how\.vlm\.url"):
        asyncio.run(made.connect())


@pytest.mark.parametrize(
    ("variable", "value"),
    [("ALL_PROXY", "socks5://127.0.0.1:1"), ("HTTPS_PROXY", "odd://x"), ("SSL_CERT_FILE", "/nowhere.pem")],
)
def test_a_proxy_or_certificate_that_cannot_be_used_is_named(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(EngineError, match=rf"^http://server/v1 cannot be asked \(.*{variable}"):
        OpenAiEngine("http://server/v1", "tiny")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"data": None}, "gives no list of models"),
        ({"models": []}, "gives no list of models"),
        (b"nothing", "gives no list of models.*not a JSON object: nothing"),
        ({"data": []}, r"no model 'tiny'; it has \[\]"),
        ({"data": [{"id": f"m{i}"} for i in range(40)] + [{"id": "tiny-2"}]}, r"has \['tiny-2', 'm0'.*and 31 more"),
    ],
)
def test_a_list_without_the_model_is_described(body: Any, said: str) -> None:
    with pytest.raises(EngineError, match=said):
        asyncio.run(engine(bodies(body)).connect())


@pytest.mark.parametrize(
    ("choice", "written"),
    [
        ({"message": {"content": [{"type": "text", "text": "{}"}]}}, ("{}", "stop")),
        ({"message": {"content": None}, "finish_reason": "length"}, ("", "length")),
        ({"message": {"content": None}}, ("", "error: the server's answer has no text")),
        ({"message": None}, ("", "error: the server's answer has no text")),
        ({"message": {"content": "x"}, "finish_reason": "content_filter"}, ("", "error: the server ended .*")),
    ],
)
def test_text_that_was_not_written_is_a_failure(choice: Any, written: tuple[str, str]) -> None:
    writing = Writing(["Name it."], {"type": "object"}, 7, 0.5, 99)
    wrote = asyncio.run(engine(bodies({"choices": [choice]})).write(writing))
    assert wrote.written.text == written[0] and re.fullmatch(written[1], wrote.written.finish)


def test_a_chat_that_has_no_answer_is_an_error_in_the_apis_form() -> None:
    for body in ({"choices": None}, [], b"<p>", {"error": {"message": "x", "code": "odd"}}):
        status, reply = asyncio.run(engine(bodies(body)).chat({}))
        assert status == 502 and set(reply["error"]) == {"message"}
    refusal = {"choices": [{"message": {"content": None, "refusal": "no"}, "finish_reason": "content_filter"}]}
    assert asyncio.run(engine(bodies(refusal)).chat({})) == (200, refusal)
    status, reply = asyncio.run(engine(bodies({"error": {"message": "too long", "code": 400}})).chat({}))
    assert (status, reply["error"]["message"]) == (400, "HTTP 400: too long")


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
        asyncio.run(made.connect())
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
