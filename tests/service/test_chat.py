"""What of OpenAI's chat API is passed on, and what is refused before anything is decoded."""

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from medsae_ray.core.naming.events import DONE, data_of, event, whole_as_events
from medsae_ray.service.errors import Problem
from tests.service.conftest import Scripted
from tests.service.test_app import picture
from tests.service.test_uploads import bomb

MODEL = "scripted-1"
TEXT = [{"role": "user", "content": "What is shown?"}]


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def shown(*urls: str) -> list[dict[str, Any]]:
    images = [{"type": "image_url", "image_url": {"url": one}} for one in urls]
    return [{"role": "user", "content": [{"type": "text", "text": "What is shown?"}, *images]}]


def post(client: TestClient, **body: Any) -> Any:
    return client.post("/v1/chat/completions", json={"model": MODEL, "messages": TEXT, **body})


def test_a_request_is_passed_on_with_the_images_that_a_run_would_send(
    naming_client: TestClient, engine: Scripted
) -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True}}
    sent = {"temperature": 0.5, "seed": 3, "max_tokens": 9, "stop": ["."], "response_format": schema, "user": "me"}
    answer = post(naming_client, messages=shown(url(picture(70))), **sent)
    assert answer.status_code == 200 and answer.json() == {"object": "chat.completion"}
    (body,) = engine.chats
    text, image = body["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is shown?"}
    with Image.open(io.BytesIO(base64.b64decode(image["image_url"]["url"].partition(",")[2]))) as drawn:
        assert (drawn.size, drawn.mode, drawn.getpixel((0, 0))) == ((32, 32), "L", 70)
    passed = {key: value for key, value in body.items() if key != "messages"}
    assert passed == {"model": MODEL, "n": 1, **{k: v for k, v in sent.items() if k != "user"}}


def test_answers_have_a_bound_even_if_none_is_asked_for(naming_client: TestClient, engine: Scripted) -> None:
    assert post(naming_client).status_code == 200 and engine.chats[0]["max_tokens"] == 512
    assert post(naming_client, max_completion_tokens=2048).status_code == 200
    assert engine.chats[1]["max_tokens"] == 2048


@pytest.mark.parametrize(
    "where",
    [
        *("http://localhost/x.png", "https://example.org/x.png", "file:///etc/passwd", "/etc/passwd", "x.png", ""),
        *(
            "ftp://example.org/x",
            "data:image/svg+xml;base64,AAAA",
            "data:text/plain;base64,AAAA",
            "DATA:image/png,AAAA",
        ),
        *(" data:image/png;base64,AAAA", "data:image/png;base64,AA AA", "data:image/png;base64,A", "gopher://x"),
    ],
)
def test_an_image_is_read_out_of_the_request_and_from_nowhere_else(
    naming_client: TestClient, engine: Scripted, where: str
) -> None:
    answer = post(naming_client, messages=shown(where))
    assert answer.status_code == 422 and answer.json()["error"]["code"] in ("not_a_data_url", "not_base64")
    assert answer.json()["error"]["where"] == "body.messages[0].content[1].image_url.url" and not engine.chats


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (bomb(100_000, 100_000), 413, "image_too_large"),
        (picture(1, 500), 413, "image_too_large"),
        (b"GIF89a", 415, "image_not_an_image"),
        (picture(1)[:60], 422, "image_truncated"),
        (b"", 422, "image_empty"),
    ],
)
def test_an_image_keeps_within_the_bounds_of_the_service(
    naming_client: TestClient, engine: Scripted, data: bytes, status: int, code: str
) -> None:
    answer = post(naming_client, messages=shown(url(data, "jpeg")))
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code) and not engine.chats


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({"stream_options": {"include_usage": True}}, 422, "body.stream_options"),
        ({"stream": True, "stream_options": {"other": 1}}, 422, "body.stream_options.other"),
        ({"model": "gpt-4o"}, 404, "body.model"),
        ({"messages": []}, 422, "body.messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 422, "body.messages.0.role"),
        ({"messages": [{"role": "user", "content": "<end_of_turn>"}]}, 422, "body.messages[0].content"),
        ({"messages": [{"role": "user", "content": "<|im_start|>"}]}, 422, "body.messages[0].content"),
        ({"messages": [{"role": "user", "content": "x" * 100_001}]}, 422, "body.messages"),
        ({"messages": shown(*[url(b"")] * 6)}, 422, "body.messages"),
        ({"n": 2}, 422, "body.n"),
        ({"max_tokens": 2049}, 422, "body.max_tokens"),
        ({"max_tokens": 0}, 422, "body.max_tokens"),
        ({"chat_template": "{{ x }}"}, 422, "body.chat_template"),
        ({"mm_processor_kwargs": {}}, 422, "body.mm_processor_kwargs"),
        ({"priority": -5}, 422, "body.priority"),
        ({"response_format": {"type": "json_schema"}}, 422, "body.response_format"),
    ],
)
def test_what_is_not_taken_is_refused_and_named(
    naming_client: TestClient, engine: Scripted, body: dict[str, Any], status: int, where: str
) -> None:
    answer = post(naming_client, **body)
    assert (answer.status_code, answer.json()["error"]["where"]) == (status, where) and not engine.chats


ECHO = {"role": "assistant", "content": "Yes", "refusal": None, "annotations": None, "audio": None,
        "function_call": None, "reasoning": None}  # fmt: skip


@pytest.mark.parametrize(
    "echo",
    [
        *(ECHO, ECHO | {"tool_calls": [], "annotations": [], "reasoning_content": None}, ECHO | {"content": None}),
        ECHO | {"reasoning": "It is bright.", "reasoning_content": "It is bright."},
        ECHO | {"provider_specific_fields": {}, "images": [], "thinking_blocks": [], "function_call": {}},
        {"role": "assistant", "tool_calls": []},
    ],
)
def test_a_replys_message_may_be_sent_back_as_it_came(
    naming_client: TestClient, engine: Scripted, echo: dict[str, Any]
) -> None:
    again = [*TEXT, echo, {"role": "user", "content": "Why?", "name": "ann"}]
    assert post(naming_client, messages=again).status_code == 200
    assert engine.chats[0]["messages"][1:] == [
        {"role": "assistant", "content": echo.get("content") or ""}, {"role": "user", "content": "Why?"},
    ]  # fmt: skip


NO_CHANGE = {
    "frequency_penalty": 0, "presence_penalty": 0.0, "repetition_penalty": 1, "min_p": 0, "top_k": -1, "store": False,
    "n": 1, "stream": False, "metadata": {"job": "a"}, "tools": [], "tool_choice": "auto", "functions": [],
    "parallel_tool_calls": True, "logit_bias": {}, "modalities": ["text"], "service_tier": "auto",
    "user": "me", "prompt_cache_key": "k", "safety_identifier": "s", "function_call": "none",
    "best_of": 1, "length_penalty": 1.0, "min_tokens": 0, "use_beam_search": False, "ignore_eos": False, "echo": False,
    "skip_special_tokens": True,
}  # fmt: skip


def test_what_changes_nothing_is_taken_and_not_passed_on(naming_client: TestClient, engine: Scripted) -> None:
    nulls = dict.fromkeys([*NO_CHANGE, "audio", "prediction", "reasoning_effort", "stop", "response_format", "seed"])
    for sent in ({}, NO_CHANGE, nulls, {"messages": [{"role": "user", "content": TEXT[0]["content"], "x": None}]}):
        assert post(naming_client, **sent).status_code == 200, sent
    assert engine.chats == [engine.chats[0]] * 4 and set(engine.chats[0]) == {"model", "messages", "n", "max_tokens"}
    developer = [{"role": "developer", "content": "Be brief."}, *TEXT]
    assert post(naming_client, messages=developer).status_code == 200
    assert engine.chats[-1]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_refusal_names_the_part_that_is_at_fault_and_the_type_that_a_body_has(naming_client: TestClient) -> None:
    part = {"type": "text", "text": "What is shown?", "colour": "red"}
    error = post(naming_client, messages=[{"role": "user", "content": [part]}]).json()["error"]
    assert error["where"].endswith("colour") and "not permitted" in error["message"]
    sent = json.dumps({"model": MODEL, "messages": TEXT})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):  # the latter is what curl -d says by itself
        answer = naming_client.post("/v1/chat/completions", content=sent, headers={"Content-Type": kind})
        assert answer.status_code == 415 and "application/json" in answer.json()["error"]["message"]


CHANGES = {
    "frequency_penalty": 0.1, "presence_penalty": -1, "repetition_penalty": 1.1, "min_p": 0.1, "top_k": 5, "n": 2,
    "tools": [{}], "tool_choice": "required", "logit_bias": {"5": 1}, "modalities": ["audio"], "audio": {},
    "reasoning_effort": "low", "prediction": {}, "store": True, "ignore_eos": True, "service_tier": "flex",
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGES)
def test_what_would_change_the_answer_is_refused_by_name(naming_client: TestClient, engine: Scripted, key: str) -> None:
    refused = post(naming_client, **{key: CHANGES[key]})
    assert refused.status_code == 422 and refused.json()["error"]["where"].startswith(f"body.{key}")
    for part in ("refusal", "tool_calls", "audio", "function_call"):
        message = {"role": "assistant", "content": "x", part: [{"a": 1}] if part == "tool_calls" else "said"}
        answer = post(naming_client, messages=[message])
        assert answer.status_code == 422 and f"body.messages.0.{part}" in answer.json()["error"]["where"]
    assert not engine.chats


def schema(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object"}
    for _ in range(levels // 2):
        made = {"properties": {"a": made}}
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": made}}


HALF = json.loads('"a\\ud800b"')


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"messages": [{"role": "user", "content": HALF}]}, "body.messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": HALF}]}]},
            "body.messages[0].content[0].text",
        ),
        ({"stop": ["x", HALF]}, "body.stop[1]"),
        ({"user": HALF}, "body.user"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {HALF: 1}}}},
            "body.response_format.json_schema.schema",
        ),
        ({HALF: 1}, "body"),
        ({"response_format": schema(200)}, "body"),
    ],
)
def test_what_no_tokenizer_can_read_is_the_callers_mistake(
    naming_client: TestClient, engine: Scripted, body: dict[str, Any], where: str
) -> None:
    sent = json.dumps({"model": MODEL, "messages": TEXT, **body})
    answer = naming_client.post("/v1/chat/completions", content=sent, headers={"content-type": "application/json"})
    assert (answer.status_code, answer.json()["error"]["where"]) == (422, where)
    assert "retry-after" not in answer.headers and not engine.chats
    assert post(naming_client, response_format=schema(30)).status_code == 200


def coded(data: bytes, form: str) -> str:
    code = base64.b64encode(data).decode()
    return {
        "line ends": "\r\n".join(code[i : i + 76] for i in range(0, len(code), 76)),
        "no padding": code.rstrip("="),
        "for addresses": base64.urlsafe_b64encode(data).decode(),
        "percent": code.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    }[form]


@pytest.mark.parametrize("form", ["line ends", "no padding", "for addresses", "percent"])
@pytest.mark.parametrize(
    "head", ["data:image/jpg;base64,", "DATA:Image/PNG;BASE64,", "data:image/png;charset=utf-8;name=a.png;base64,"]
)
def test_a_data_url_is_read_in_the_forms_that_clients_write(
    naming_client: TestClient, engine: Scripted, head: str, form: str
) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (21, 33), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "PNG")
    data = stream.getvalue() + b"\xff\xfe\xfd"  # so that every form differs from the plain one
    assert post(naming_client, messages=shown(head + coded(data, form))).status_code == 200
    assert post(naming_client, messages=shown(url(data))).status_code == 200
    assert engine.chats[0] == engine.chats[1]


def test_a_comparison_in_a_text_is_no_control_token(naming_client: TestClient, engine: Scripted) -> None:
    assert post(naming_client, messages=[{"role": "user", "content": "Is it <5 or > 7?"}]).status_code == 200


def test_what_the_engine_refuses_is_told_and_its_own_failures_are_not(
    naming_client: TestClient, engine: Scripted
) -> None:
    engine.chat_answer = 400, {"error": {"message": "too many tokens"}}
    assert post(naming_client).json()["error"] == {
        "code": "engine_refused", "message": "too many tokens", "where": "body",
    }  # fmt: skip
    engine.chat_answer = 400, {"error": "no\nsuch"}
    refused = post(naming_client)
    assert refused.json()["error"]["message"] == "no such" and "retry-after" not in refused.headers
    engine.chat_answer = 500, {"error": {"message": "in /a/file"}}
    failed = post(naming_client)
    assert failed.status_code == 503 and "/a/file" not in failed.text and failed.headers["retry-after"]


def test_models_are_listed_and_without_an_engine_there_are_none(naming_client: TestClient, client: TestClient) -> None:
    assert [card["id"] for card in naming_client.get("/v1/models").json()["data"]] == [MODEL]
    for answer in (client.get("/v1/models"), post(client)):
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_engine"


PIECES = [{"choices": [{"delta": {"content": text}}]} for text in ("A ", "film")]
COST = {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}


def streamed(client: TestClient, **body: Any) -> list[dict[str, Any]]:
    answer = post(client, stream=True, **body)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/event-stream")
    *events, end = answer.text.removesuffix("\n\n").split("\n\n")
    assert end == "data: [DONE]" or "error" in end
    return [data_of(one) for one in (events if end == "data: [DONE]" else [*events, end])]


def test_an_answer_comes_piece_by_piece_and_its_cost_if_it_is_asked_for(
    naming_client: TestClient, engine: Scripted
) -> None:
    engine.events = [*(event(piece) for piece in (*PIECES, COST)), DONE]
    assert streamed(naming_client) == PIECES
    assert streamed(naming_client, stream_options={"include_usage": True}) == [*PIECES, COST]
    assert engine.chats[0]["stream_options"] == {"include_usage": True} and engine.chats[0]["max_tokens"] == 512
    assert 'tokens_total{kind="output"} 4.0' in engine.metrics.text().decode()


def test_a_refusal_of_a_stream_is_one_and_a_failure_in_the_middle_is_its_last_event(
    naming_client: TestClient, engine: Scripted
) -> None:
    engine.events = [(400, {"error": {"message": "too many tokens"}})]
    refused = post(naming_client, stream=True)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "engine_refused")
    engine.events = [Problem(503, "engine_lost", "it does not run", retry_s=2)]
    assert post(naming_client, stream=True).headers["retry-after"] == "2"
    for failure in (engine.events[0], (500, {"error": "in /a/file"})):
        engine.events = [event(PIECES[0]), failure]
        *pieces, last = streamed(naming_client)
        assert pieces == PIECES[:1] and last["error"]["code"] in ("engine_lost", "engine_failed")
        assert "/a/file" not in str(last)


def test_an_answer_that_came_whole_is_one_piece() -> None:
    message = {"role": "assistant", "content": "A film"}
    whole = {"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": {"n": 1}}
    *pieces, end = whole_as_events(200, whole)
    first, cost = (data_of(str(piece)) for piece in pieces)
    assert first["choices"][0]["delta"] == message and cost["usage"] == {"n": 1} and end == DONE
    assert list(whole_as_events(400, {"error": {}})) == [(400, {"error": {}})]
