"""The socket of `medsae serve` between the command and its replica: somebody answers at any time."""

import multiprocessing
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import httpx
import pytest

from medsae_ray.errors import MedsaeError
from medsae_ray.service.address import address_of, listen
from medsae_ray.service.door import Borrowed, Door

LIVE = "/v1/health/live"


async def app(scope: Any, receive: Any, send: Any) -> None:
    """A replica's answer, which takes a while at /slow."""
    import asyncio

    await asyncio.sleep(1 if scope["path"] == "/slow" else 0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"7")]})
    await send({"type": "http.response.body", "body": b"replica"})


@pytest.fixture
def door() -> Iterator[Door]:
    with Door(listen("127.0.0.1", 0), retry_s=2) as door:
        yield door


def url(door: Door) -> str:
    return f"http://127.0.0.1:{door.listening.getsockname()[1]}"


def get(door: Door, path: str = "/v1/features") -> httpx.Response:
    return httpx.get(url(door) + path, timeout=20)


def code(answer: httpx.Response) -> str:
    assert answer.status_code == 503 and answer.headers["retry-after"] == "2"
    assert set(answer.json()) == {"error"}
    return str(answer.json()["error"]["code"])


def until(door: Door, text: str) -> float:
    """The seconds until an answer holds a text."""
    begun = time.monotonic()
    while text not in get(door).text:
        assert time.monotonic() - begun < 10
        time.sleep(0.01)
    return time.monotonic() - begun


def test_before_the_replica_is_there_it_is_said_that_the_service_starts(door: Door) -> None:
    assert code(get(door)) == code(get(door, "/v1/health/ready")) == "starting"
    assert get(door, LIVE).json() == {"live": True}
    assert code(httpx.post(url(door) + "/v1/encode", content=bytes(100_000))) == "starting"


def test_a_replica_takes_over_and_finishes_what_it_began_while_the_next_are_told_that_it_stops(door: Door) -> None:
    replica = Borrowed(door.path, app, 5)
    until(door, "replica")
    with ThreadPoolExecutor(2) as threads, httpx.Client(base_url=url(door)) as kept:
        assert kept.get("/").text == "replica"
        slow = threads.submit(get, door, "/slow")
        time.sleep(0.3)
        begun = time.monotonic()
        stopped = threads.submit(door.drain, 5)
        until(door, "stopping")
        assert code(get(door)) == code(get(door, LIVE)) == "stopping" and not slow.done()
        assert kept.get("/").status_code in (200, 503)  # on its old connection, or on a new one
        stopped.result()
        assert slow.result().text == "replica" and 0.4 < time.monotonic() - begun < 4
    assert replica.runs


def lost(path: str) -> None:
    Borrowed(path, app, 5)
    time.sleep(60)


def test_a_replica_that_is_killed_is_missed_at_once_and_the_next_one_takes_over(door: Door) -> None:
    process = multiprocessing.get_context("spawn").Process(target=lost, args=(door.path,))
    process.start()
    until(door, "replica")
    process.kill()
    assert until(door, "service_lost") < 2 and get(door, LIVE).status_code == 200
    Borrowed(door.path, app, 5)
    assert until(door, "replica") < 2


def test_no_request_is_lost_while_the_socket_changes_hands(door: Door) -> None:
    answers, stop = [], threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(get(door).status_code)

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        time.sleep(0.2)
        Borrowed(door.path, app, 5)
        until(door, "replica")
        door.drain(5)
        until(door, "stopping")
        stop.set()
        assert all(one.result() is None for one in asking)
    assert set(answers) == {200, 503}


def test_a_command_that_ends_takes_its_replica_along() -> None:
    with Door(listen("127.0.0.1", 0), retry_s=2) as door:
        replica = Borrowed(door.path, app, 5)
        until(door, "replica")
        where = url(door)
    while replica._listener.runs:
        time.sleep(0.01)
    with pytest.raises(httpx.ConnectError):
        httpx.get(where)


def test_a_taken_port_and_one_that_is_none_are_told() -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        with pytest.raises(MedsaeError, match=f"nothing can listen at 127.0.0.1:{busy}: Address already in use"):
            address_of("127.0.0.1", busy, "NO_TOKEN")
    for port in (99999, -1):
        with pytest.raises(MedsaeError, match="a port is a number from 0 to 65535"):
            listen("127.0.0.1", port)
    with pytest.raises(MedsaeError, match="nothing can listen at no"):
        listen("no.such.host.invalid", 80)
