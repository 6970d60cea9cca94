"""The service on a real cluster, over real HTTP."""

import contextlib
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import httpx
import pytest
from ray import serve

import medsae_ray
from medsae_ray.errors import MedsaeError
from medsae_ray.service.address import listen
from medsae_ray.service.command import http, serving
from medsae_ray.service.deployment import deployed
from medsae_ray.service.door import Door
from medsae_ray.service.limits import RequestLimits
from medsae_ray.service.middleware import digest
from medsae_ray.service.wire import HEADER_S
from tests.service.conftest import Small
from tests.service.test_app import stored, uri_of

TOKEN = "correct-horse-battery"
LIMITS = RequestLimits(requests=4, body=2**20, body_s=3)
HEADERS = {"authorization": f"Bearer {TOKEN}", "content-type": "image/png"}

pytestmark = pytest.mark.ray


def test_a_port_that_is_taken_is_a_clear_error(ray_cluster: None) -> None:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = taken.getsockname()[1]
        with (
            pytest.raises(MedsaeError, match=f"nothing can listen at 127.0.0.1:{busy}"),
            http("127.0.0.1", busy, LIMITS),
        ):
            pass


@pytest.fixture(scope="module")
def port(small: Small, ray_cluster: None) -> Iterator[int]:
    listening = listen("127.0.0.1", 0)
    with Door(listening, 2) as door, serving(), deployed(small.run, digest(TOKEN), LIMITS, door.path):
        yield listening.getsockname()[1]
    assert not serve.status().applications


@pytest.fixture
def client(port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=HEADERS, timeout=60) as client:
        yield client


def test_an_image_gets_the_numbers_that_the_run_stored_for_it(client: httpx.Client, small: Small) -> None:
    uris = uri_of(small)
    for image_id, (features, values) in list(stored(small).items())[:20]:
        answer = client.post("/v1/encode?named=false&top=200", content=(small.images / uris[image_id]).read_bytes())
        found = {row["feature"]: row["activation"] for row in answer.json()["features"]}
        assert sorted(found) == features
        assert [found[feature] for feature in features] == pytest.approx(values, abs=1e-6)


def test_a_query_in_words_is_answered(client: httpx.Client, small: Small) -> None:
    answer = client.get("/v1/query", params={"text": "left"}).json()
    assert answer == medsae_ray.query(small.recipe, small.root, "left") and answer["images"]


def test_all_but_life_needs_the_token(client: httpx.Client, port: int) -> None:
    assert client.get("/v1/health/ready").json()["ready"]
    bare = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
    assert bare.get("/v1/health/live").json() == {"live": True}
    for path in ("/v1/features", "/docs", "/openapi.json", "/v1/health/ready"):
        assert bare.get(path).status_code == 401 and client.get(path).status_code == 200


def test_at_twice_its_capacity_it_says_when_to_come_back_and_recovers(client: httpx.Client, small: Small) -> None:
    data = (small.images / "i0000.png").read_bytes()
    together = threading.Barrier(2 * LIMITS.requests)

    def post(number: int) -> httpx.Response:
        def slowly() -> Iterator[bytes]:
            yield data[:100]
            time.sleep(1)
            yield data[100:]

        together.wait()
        return client.post("/v1/encode", content=slowly())

    with ThreadPoolExecutor(2 * LIMITS.requests) as threads:
        answers = list(threads.map(post, range(2 * LIMITS.requests)))
    counts = Counter(answer.status_code for answer in answers)
    assert counts[200] == LIMITS.requests and counts[429] + counts[503] == LIMITS.requests
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers if answer.status_code != 200)
    assert client.post("/v1/encode", content=data).status_code == 200


def test_a_body_that_is_too_long_or_too_slow_ends_its_request(port: int, client: httpx.Client) -> None:
    lines = "POST /v1/encode HTTP/1.1", "Host: localhost", f"Authorization: Bearer {TOKEN}", "Content-Type: image/png"
    for length, status in ((LIMITS.body + 1, b" 413 "), (1000, b" 408 ")):
        with closing(socket.create_connection(("127.0.0.1", port), timeout=30)) as wire:
            wire.sendall("\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode() + b"\x89PNG")
            assert status in wire.recv(4096).split(b"\r\n")[0]
    chunks = (bytes(2**16) for _ in range(64))
    with contextlib.suppress(httpx.WriteError):  # refused while it was still being sent
        assert client.post("/v1/encode", content=chunks).status_code == 413
    assert client.get("/v1/health/live").status_code == 200


def test_half_a_header_is_closed_and_a_head_is_answered(port: int, client: httpx.Client) -> None:
    with closing(socket.create_connection(("127.0.0.1", port), timeout=2 * HEADER_S)) as wire:
        wire.sendall(b"GET /v1/health/live HTTP/1.1\r\nHost: localhost\r\n")
        head = client.head("/v1/health/live")
        assert (head.status_code, head.content) == (200, b"")
        assert wire.recv(100) == b""


def test_another_address_is_refused_while_serve_runs(port: int) -> None:
    with (
        pytest.raises(MedsaeError, match="runs on this cluster already"),
        http("127.0.0.1", 1, LIMITS),
    ):
        pass
