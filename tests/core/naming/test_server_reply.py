"""Whatever a server sends is sorted, and nothing that it sends can raise."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medsae_ray.core.naming.engine import Usage, yes_no
from medsae_ray.core.naming.server_choice import ServerReply, fewer_logprobs, read_choice, read_models, read_usage
from medsae_ray.core.naming.server_reply import Busy, Refused, Stop, Whole, read_json, read_reply

KEYS = st.sampled_from(
    [
        *("choices", "message", "content", "logprobs", "top_logprobs", "token", "logprob", "bytes", "finish_reason"),
        *("error", "code", "type", "detail", "data", "id", "root", "usage", "prompt_tokens", "refusal", "object"),
    ]
)
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([10**400, "error"])
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=4),
    max_leaves=25,
)
WELL: dict[str, Any] = {
    "choices": [
        {
            "message": {"content": "Yes"},
            "finish_reason": "stop",
            "logprobs": {"content": [{"token": "Yes", "top_logprobs": [{"token": "Yes", "logprob": -0.1}]}]},
        }
    ],
    "usage": {"prompt_tokens": 9, "completion_tokens": 1},
}


def paths(value: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a JSON value has parts."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [so_far, *(path for key, part in inner for path in paths(part, (*so_far, key)))]


def with_part(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = json.loads(json.dumps(value))
    place = copy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = new
    return copy


def take_apart(status: int, data: bytes, charset: str | None = None) -> Any:
    """All that a client does with a reply."""
    reply = read_reply(status, data, charset)
    if not isinstance(reply, Whole):
        assert isinstance(reply.why, str) and len(reply.why) < 700 and reply.why.isprintable()
        return reply
    read_models(reply.body)
    assert min(read_usage(reply.body, 0.5)) >= 0
    choice = read_choice(reply.body)
    if isinstance(choice, Refused):
        assert len(choice.why) < 700 and choice.why.isprintable()
        return choice
    assert all(isinstance(token, str) and logprob <= 0 for token, logprob in choice.likely)
    assert choice.likely or choice.lacks or choice.lacks is None
    choice.finish.encode(), (choice.text or "").encode()
    yes_no(choice.likely)
    return choice


@settings(max_examples=300, deadline=None)
@given(status=st.integers(200, 599), body=ANYTHING)
def test_any_json_is_sorted(status: int, body: Any) -> None:
    take_apart(status, json.dumps(body).encode())


@settings(max_examples=300, deadline=None)
@given(path=st.sampled_from(paths(WELL)), part=ANYTHING)
def test_an_answer_with_any_part_replaced_is_sorted(path: tuple[Any, ...], part: Any) -> None:
    take_apart(200, json.dumps(with_part(WELL, path, part)).encode())


@settings(max_examples=200, deadline=None)
@given(
    st.integers(200, 599), st.binary(max_size=60), st.sampled_from([None, "latin-1", "utf-16", "nope", "hex", "\x00"])
)
def test_any_bytes_are_sorted(status: int, data: bytes, charset: str | None) -> None:
    for body in (data, b"<html>" + data, json.dumps(WELL).encode()[: 5 * len(data)] + data):
        take_apart(status, body, charset)


def error(message: str = "Provider returned error", **more: Any) -> dict[str, Any]:
    return {"error": {"message": message, **more}}


@pytest.mark.parametrize(
    ("status", "body", "kind", "said"),
    [
        (200, error(code=502), Busy, "HTTP 502: Provider returned error"),
        (200, error(code="429"), Busy, "HTTP 429"),
        (200, error(type="overloaded_error"), Busy, "Provider returned error"),
        (200, {"choices": [{"error": {"code": 503, "message": "down"}, "message": None}]}, Busy, "HTTP 503: down"),
        (200, error(code=401), Stop, "key is missing or wrong"),
        (200, error(code="invalid_api_key"), Stop, "key is missing or wrong"),
        (200, error(code=404), Stop, "no such model"),
        (200, error("no", code=400), Refused, "HTTP 400: no"),
        (200, {"error": "something"}, Refused, "something"),
        (200, [error(code=429)], Busy, "HTTP 429"),
        (200, [error(code=401)], Stop, "key is missing or wrong"),
        (200, {"code": 401, "message": "Unauthorized"}, Stop, "HTTP 401: Unauthorized"),
        (200, {"code": 503, "msg": "come back", "choices": []}, Busy, "HTTP 503: come back"),
        (200, {"status": "error", "message": "no quota? more credits needed"}, Stop, "no money or quota left"),
        (200, {"detail": "Not authenticated"}, Refused, "Not authenticated"),
        (200, {"object": "error", "message": "too long", "code": 400}, Refused, "HTTP 400: too long"),
        (200, error("Insufficient credits. Add more", code=402), Stop, "no money or quota left"),
        (429, error("You exceeded your current quota", code="insufficient_quota"), Stop, "no money or quota left"),
        (429, error("slow down", type="insufficient_quota"), Stop, "insufficient_quota"),
        (400, error("Your credit balance is too low to access the API"), Stop, "no money or quota left"),
        (402, {}, Stop, "no money or quota left"),
        (429, error("Quota exceeded for requests per minute, please retry in 37.2s"), Busy, "per minute"),
        (429, error("Rate limit reached. Please try again in 20s. Visit account/billing"), Busy, "HTTP 429"),
        (403, error("the input was flagged by moderation"), Refused, "flagged"),
        (403, error("no access"), Stop, "may not use this model"),
        (404, {"detail": "Not Found"}, Stop, "Not Found"),
        (405, {}, Stop, "not the address of OpenAI's API"),
        (529, error("overloaded"), Busy, "overloaded"),
        (413, error("too large"), Refused, "HTTP 413: too large"),
        (302, {}, Stop, "redirects to another address"),
        (200, "<!DOCTYPE html><title>Sign\nin</title>", Stop, r"web page \(Sign in\)"),
        (502, "<html><head><title>502 Bad Gateway</title></head></html>", Busy, "502 Bad Gateway"),
        (200, "data: {}", Refused, "not a JSON object: data"),
        (200, '{"choices": [{"mess', Refused, "not a JSON object"),
        (200, "", Refused, "it is empty"),
        (200, "[" * 100_000, Refused, "not a JSON object"),
        (200, "null", Refused, "not a JSON object"),
    ],
)
def test_an_error_is_what_it_says_wherever_it_stands(status: int, body: Any, kind: type, said: str) -> None:
    reply = read_reply(status, body.encode() if isinstance(body, str) else json.dumps(body).encode())
    assert isinstance(reply, kind)
    assert re.search(said, reply.why), reply.why  # type: ignore[union-attr]


def test_what_a_server_says_is_shown_short_and_without_control_characters() -> None:
    reply = read_reply(400, json.dumps(error("a\x1b[31m\nb\u202e" + "x" * 10**6)).encode())
    assert isinstance(reply, Refused) and reply.why.startswith("HTTP 400: a [31m b x") and len(reply.why) < 330


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32-le", "latin-1"])
def test_json_is_read_in_any_encoding(encoding: str) -> None:
    text = json.dumps({"a": "ödem"}, ensure_ascii=False)
    assert read_json(text.encode(encoding), encoding) == {"a": "ödem"}


def test_what_is_no_number_or_no_text_does_not_get_in() -> None:
    assert read_json(b'{"a": NaN, "b": 1e999, "c": "x\\ud800"}') == {"a": None, "b": None, "c": "x?"}


def choice(logprobs: Any, **more: Any) -> ServerReply | Refused:
    return read_choice({"choices": [{"message": {"content": "Yes"}, "logprobs": logprobs, **more}]})


def likely(*tokens: dict[str, Any]) -> Any:
    return {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": list(tokens)}]}


@pytest.mark.parametrize(
    ("logprobs", "lacks"),
    [
        (None, "'logprobs' is null"),
        ({}, "'logprobs.content' is null"),
        ([], "'logprobs' is empty"),
        ({"content": None}, "'logprobs.content' is null"),
        ({"content": [None]}, "'top_logprobs' is null"),
        ({"content": [{"token": "Yes", "logprob": -0.1}]}, "'top_logprobs' is null"),
        (likely(), "'top_logprobs' is empty"),
        (likely({"token": "Yes", "logprob": None}), "no entry"),
        (likely({"token": "Yes", "logprob": "-0.1"}), "no entry"),
        (likely({"token": "Yes", "logprob": 0.98}, {"token": "No", "logprob": 0.0005}), "no logarithms"),
        (likely({"token": "Yes", "logprob": 0.0}, {"token": "No", "logprob": 0.0}), "no logarithms"),
        (likely({"token": "Yes", "logprob": 12.5}, {"token": "No", "logprob": -3.5}), "no logarithms"),
        (likely({"token": None, "logprob": -0.1}), "no entry"),
    ],
)
def test_log_probabilities_that_are_not_there_are_named(logprobs: Any, lacks: str) -> None:
    found = choice(logprobs)
    assert isinstance(found, ServerReply) and not found.likely and found.lacks and lacks in found.lacks


def test_tokens_count_as_words_whatever_their_form() -> None:
    yes = {"token": " YES", "logprob": -0.5}, {"token": "", "bytes": list(b"Yes"), "logprob": -2.0}
    no = {"token": "No", "logprob": -2.0}, {"token": "No", "logprob": -2.0}, {"token": "x", "logprob": None}
    found = choice(likely(*yes, *no))
    assert isinstance(found, ServerReply)
    assert found.likely == [(" YES", -0.5), ("Yes", -2.0), ("No", -2.0)]


def test_the_chosen_token_counts_once_where_it_comes_again_with_other_digits() -> None:
    again = {"token": "Yes", "logprob": -0.2}, {"token": "No", "logprob": -1.75}, {"token": "Yes", "logprob": -0.2001}
    found = choice(likely(*again))
    assert isinstance(found, ServerReply) and found.likely == [("Yes", -0.2), ("No", -1.75)]
    alike = [{"token": "Yes", "bytes": list(text), "logprob": -0.7} for text in (b"Yes", b" Yes")]
    found = choice(likely(*alike))
    assert isinstance(found, ServerReply) and found.likely == [("Yes", -0.7), ("Yes", -0.7)]


def test_an_answer_without_a_token_lacks_nothing() -> None:
    found = choice({"content": []})
    assert isinstance(found, ServerReply) and (found.likely, found.lacks) == ([], None)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "a"}, "a"),
        ({"content": None}, None),
        (None, None),
        ({}, None),
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "x"}]}, "ab"),
        ({"content": []}, None),
        ({"content": 3}, None),
    ],
)
def test_text_is_taken_from_where_it_is(message: Any, text: str | None) -> None:
    found = choice(None, message=message)
    assert isinstance(found, ServerReply) and found.text == text


def test_an_answer_that_was_held_back_is_none() -> None:
    for more in ({"finish_reason": "content_filter"}, {"message": {"content": None, "refusal": "I cannot"}}):
        assert isinstance(choice(None, **more), Refused)


def test_costs_are_numbers() -> None:
    spent = {"prompt_tokens": None, "completion_tokens": -3, "prompt_tokens_details": [], "total": "x"}
    assert read_usage({"usage": spent}, 2.0) == Usage(1, 0, 0, 0, 2.0)
    assert read_usage({"usage": {"prompt_tokens": 7.0}}, 0.0)[1] == 7


@pytest.mark.parametrize(
    ("body", "models"),
    [
        ({"data": None}, None),
        ({}, None),
        ("x", None),
        ({"data": []}, {}),
        ({"data": [None, {"id": 3}]}, None),
        ({"data": [{"id": "a", "root": 3}, {"no": "id"}]}, {"a": None}),
        ([{"id": "a", "root": "/b"}], {"a": "/b"}),
    ],
)
def test_models_are_read_from_a_list_of_them_only(body: Any, models: Any) -> None:
    assert read_models(body) == models


@pytest.mark.parametrize(
    ("why", "asked", "fewer"),
    [
        ("HTTP 400: 'top_logprobs' must be less than or equal to 5", 20, 5),
        ("HTTP 400: Requested sample logprobs of 20, which is greater than max allowed: 8", 20, 8),
        ("HTTP 422: top_logprobs: Input should be between 0 and 5 https://errors.pydantic.dev/2.11/v/x", 20, 5),
        ("HTTP 400: top_logprobs is too large", 20, 5),
        ("HTTP 400: top_logprobs is too large", 5, 2),
        ("HTTP 400: top_logprobs is too large", 2, 0),
        ("HTTP 400: 'logprobs' is not supported with this model", 20, 0),
        ("HTTP 400: Unrecognized request argument supplied: top_logprobs", 20, 0),
        ("HTTP 400: the image has more than 5 pixels", 20, None),
    ],
)
def test_a_refusal_says_how_many_log_probabilities_there_are(why: str, asked: int, fewer: int | None) -> None:
    assert fewer_logprobs(why, asked) == fewer
