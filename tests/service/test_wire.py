"""Connections on which no request comes to be, on uvicorn itself."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from medsae_ray.service.wire import CALLBACK, bound_headers, bounded

HEADER_S = 0.5
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads the body and answers `ok`, slowly where the path is /slow."""
    while (await receive()).get("more_body"):
        pass
    await asyncio.sleep(2 * HEADER_S if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture(scope="module", params=[H11Protocol, HttpToolsProtocol])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    config = uvicorn.Config(
        app, port=0, http=bounded(request.param, HEADER_S), lifespan="off", log_level="critical", timeout_keep_alive=30
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def connect(port: int) -> closing[socket.socket]:
    return closing(socket.create_connection(("127.0.0.1", port), timeout=5))


def closed_after(wire: socket.socket) -> float:
    begun = time.monotonic()
    assert wire.recv(100) == b""
    return time.monotonic() - begun


@pytest.mark.parametrize("begun", [b"", b"GET / HTT", GET[:-2], GET[:-4]])
def test_half_a_header_is_closed_after_a_while(port: int, begun: bytes) -> None:
    with connect(port) as wire:
        wire.sendall(begun)
        assert HEADER_S / 2 < closed_after(wire) < 4 * HEADER_S


def send_slowly(wire: socket.socket, data: bytes) -> None:
    for byte in data:
        wire.sendall(bytes([byte]))
        time.sleep(HEADER_S / 20)


def test_single_bytes_do_not_keep_a_header_open(port: int) -> None:
    with connect(port) as wire, pytest.raises(ConnectionError):
        send_slowly(wire, GET[:-2] * 3)


def test_a_request_has_its_time_and_a_further_one_its_own(port: int) -> None:
    with connect(port) as wire:
        wire.sendall(GET.replace(b"/", b"/slow", 1))
        assert wire.recv(1000).endswith(b"ok")
        time.sleep(1.5 * HEADER_S)
        wire.sendall(GET)
        assert wire.recv(1000).endswith(b"ok")
        wire.sendall(GET[:-2])
        assert HEADER_S / 2 < closed_after(wire) < 4 * HEADER_S


def test_a_slow_body_is_not_a_slow_header(port: int) -> None:
    with connect(port) as wire:
        wire.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\na")
        for _ in range(3):
            time.sleep(HEADER_S)
            wire.sendall(b"b")
        assert wire.recv(1000).endswith(b"ok")


def test_the_proxy_finds_the_function_and_gets_the_protocol_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve._private.utils import call_function_from_import_path
    from uvicorn.protocols.http import auto

    monkeypatch.setattr(auto, "AutoHTTPProtocol", auto.AutoHTTPProtocol)
    (place,) = CALLBACK.values()
    assert call_function_from_import_path(place) == [] and bound_headers() == []
    made = uvicorn.Config(app)
    made.load()
    assert made.http_protocol_class is auto.AutoHTTPProtocol and made.http_protocol_class.__name__ == "Bounded"
    assert made.http_protocol_class.__mro__[1].__name__ != "Bounded"
