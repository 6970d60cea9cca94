"""What a server may reply, and what is made of it: an answer, a failure of its own, or the end of the run."""

import asyncio
import json
import math
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from medsae_ray.core.naming.engine import Writing
from medsae_ray.core.naming.openai_api import OpenAiEngine
from medsae_ray.errors import EngineError
from tests.core.naming.openai_server import answer, ask, engine

pytestmark = pytest.mark.usefixtures("no_pauses")


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
        (httpx.Response(307, headers={"Location": "https://login/x?token=1"}), r"redirects to https://login/x \("),
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
        asyncio.run(made.check())


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
        asyncio.run(engine(bodies(body)).check())


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
