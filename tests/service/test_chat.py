"""What of OpenAI's chat API is passed on, and what is refused before anything is decoded."""

import base64
import io
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image

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
        ({"stream": True}, 400, "body.stream"),
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


def test_a_comparison_in_a_text_is_no_control_token(naming_client: TestClient, engine: Scripted) -> None:
    assert post(naming_client, messages=[{"role": "user", "content": "Is it <5 or > 7?"}]).status_code == 200


def test_what_the_engine_refuses_is_told_and_its_own_failures_are_not(
    naming_client: TestClient, engine: Scripted
) -> None:
    engine.chat_answer = 400, {"error": {"message": "too many tokens"}}
    assert post(naming_client).json()["error"] == {
        "code": "engine_refused", "message": "too many tokens", "where": "body",
    }  # fmt: skip
    engine.chat_answer = 500, {"error": {"message": "in /a/file"}}
    failed = post(naming_client)
    assert failed.status_code == 503 and "/a/file" not in failed.text and failed.headers["retry-after"]


def test_models_are_listed_and_without_an_engine_there_are_none(naming_client: TestClient, client: TestClient) -> None:
    assert [card["id"] for card in naming_client.get("/v1/models").json()["data"]] == [MODEL]
    for answer in (client.get("/v1/models"), post(client)):
        assert answer.status_code == 503 and answer.json()["error"]["code"] == "no_engine"
