import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.middleware import digest
from tests.service.conftest import LIMITS, Small

TOKEN = "correct-horse-battery"
PATHS = [
    "/v1/health/ready",
    "/v1/features",
    "/v1/features/1",
    "/docs",
    "/openapi.json",
    "/nothing",
    "/docs/swagger-ui.css",
    "/metrics",
]


@pytest.fixture
def locked(desk: Desk) -> Iterator[TestClient]:
    with TestClient(make_app(desk, digest(TOKEN)), "http://example.org", raise_server_exceptions=False) as client:
        yield client


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_is_readable(locked: TestClient, path: str) -> None:
    wrong = ["", TOKEN, f"Bearer {TOKEN}x", "Bearer ", f"Basic {TOKEN}", f"Bearer  {TOKEN}", "Bearer \xff"]
    for header in wrong:
        answer = locked.get(path, headers={"authorization": header.encode("latin-1")})
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert set(answer.json()) == {"error"} and answer.json()["error"]["code"] == "unauthorized"
    right = locked.get(path, headers={"authorization": f"bearer {TOKEN}"})
    assert right.status_code == (404 if path == "/nothing" else 200)


def test_only_that_it_lives_is_said_to_everyone(locked: TestClient) -> None:
    assert locked.get("/v1/health/live").json() == {"live": True}
    assert locked.get("/v1/health/live/").status_code == locked.post("/v1/encode").status_code == 401


def test_without_a_token_only_names_of_this_machine_are_answered(desk: Desk) -> None:
    app = make_app(desk, None)
    for host, status in (("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("evil.example", 403)):
        assert TestClient(app).get("/v1/features", headers={"host": host}).status_code == status
    assert TestClient(app).get("/v1/features", headers={"host": "[::1"}).status_code == 403


def ask(
    app: FastAPI, receive: Callable[[], Awaitable[dict[str, Any]]], headers: dict[str, str]
) -> tuple[int, dict[str, str], Any]:
    """One POST to /v1/encode, message by message, as a server would send it."""
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    pairs = [(k.encode(), v.encode()) for k, v in {"host": "localhost", "content-type": "image/png", **headers}.items()]
    scope = {"type": "http", "method": "POST", "path": "/v1/encode", "query_string": b"", "headers": pairs}
    asyncio.run(app({"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", **scope}, receive, send))
    got = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], got, json.loads(b"".join(message.get("body", b"") for message in sent[1:]))


def test_a_long_body_is_refused_while_it_arrives(desk: Desk) -> None:
    given = 0

    async def receive() -> dict[str, Any]:
        nonlocal given
        given += 2**16
        return {"type": "http.request", "body": bytes(2**16), "more_body": True}

    status, _, body = ask(make_app(desk, None), receive, {"transfer-encoding": "chunked"})
    assert status == 413 and body["error"]["code"] == "too_large" and given <= LIMITS.body + 2**16


@pytest.mark.parametrize("length", [str(LIMITS.body + 1), "9" * 5000, "-1", "1e3", "²"])
def test_a_length_that_cannot_be_is_refused_before_anything_is_read(desk: Desk, length: str) -> None:
    async def receive() -> dict[str, Any]:
        raise AssertionError("nothing is to be read")

    assert ask(make_app(desk, None), receive, {"content-length": length})[0] == 413


@pytest.mark.parametrize("kind", ["image/png", "multipart/form-data; boundary=b"])
def test_a_caller_who_leaves_is_one_quiet_line(desk: Desk, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    messages = [{"type": "http.request", "body": b"--b\r\n", "more_body": True}, {"type": "http.disconnect"}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"host", b"localhost"), (b"content-type", kind.encode())]
    scope = {"type": "http", "method": "POST", "path": "/v1/encode", "query_string": b"", "headers": headers}
    app: Any = make_app(desk, None)
    with caplog.at_level(logging.DEBUG):
        asyncio.run(app({"asgi": {"version": "3.0"}, "http_version": "1.1", "scheme": "http", **scope}, receive, send))
    (line,) = [record for record in caplog.records if record.name.startswith("medsae")]
    assert line.levelno == logging.INFO and not line.exc_info and "\n" not in line.getMessage() and not sent


@pytest.mark.parametrize("path", ["/v1/health/live", "/v1/health/ready", "/v1/features", "/v1/features/1", "/docs"])
def test_head_is_get_without_its_body(locked: TestClient, path: str) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    head, get = locked.head(path, headers=headers), locked.get(path, headers=headers)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-length"] == get.headers["content-length"] == str(len(get.content))


def test_head_is_refused_where_get_is(locked: TestClient) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    for path, status in (("/v1/encode", 405), ("/v1/nothing", 404), ("/v1/features?page=0", 422)):
        answer = locked.head(path, headers=headers)
        assert (answer.status_code, answer.content) == (status, b"")
    assert locked.head("/v1/features").status_code == 401


def test_a_slow_sender_is_timed_out(desk: Desk) -> None:
    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.2)
        return {"type": "http.request", "body": b"x", "more_body": True}

    assert ask(make_app(desk, None), receive, {})[0] == 408


def test_beyond_its_places_the_service_says_when_to_come_back_and_recovers(desk: Desk, small: Small) -> None:
    data = (small.images / "i0000.png").read_bytes()
    app = make_app(desk, None)

    async def crowd() -> list[int]:
        import httpx

        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            posts = (client.post("/v1/encode", content=data, headers={"content-type": "image/png"}) for _ in range(8))
            answers = await asyncio.gather(*posts)
        assert all(a.headers["retry-after"] == "2" for a in answers if a.status_code == 429)
        return sorted(answer.status_code for answer in answers)

    for _ in range(2):
        assert asyncio.run(crowd()) == [200] * 4 + [429] * 4


def test_a_fault_of_the_service_is_told_without_what_it_was_about(
    small: Small, desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "".join(("SEC", "RET"))

    def broken(*arguments: object) -> None:
        raise RuntimeError(f"{secret} pixel values")

    monkeypatch.setattr(desk.encoder, "pixels", broken)
    client = TestClient(make_app(desk, digest(TOKEN)), raise_server_exceptions=False)
    data = (small.images / "i0000.png").read_bytes()
    with caplog.at_level(logging.DEBUG):
        answer = client.post(
            "/v1/encode",
            files={"image": (f"{secret}-patient.png", data, "image/png")},
            headers={"authorization": f"Bearer {TOKEN}"},
        )
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal"
    kept = "\n".join(
        record.getMessage() + (record.exc_text or "") for record in caplog.records if record.name != "httpx"
    )
    assert "RuntimeError" in kept and secret not in kept and TOKEN not in kept
