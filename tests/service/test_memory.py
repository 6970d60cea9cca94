"""The memory of the service's process: requests leave nothing behind, and bombs do not swell in it."""

import asyncio
import gc
import os
import struct
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.limits import RequestLimits
from tests.service.conftest import LIMITS, Small
from tests.service.test_uploads import FORM, bomb, chunk
from tests.support.hostile_files import Maker, deflate_bomb, nested_sequences

PNG = {"content-type": "image/png"}
WARM, REQUESTS = 500, 2000
GROWTH = 8 * 2**20
"""The most bytes by which the process may grow over REQUESTS: 4 kB for each, less than the smallest image sent."""
BOMB_S, SWELLS = 2.5, 64 * 2**20
"""The most seconds and bytes that a bomb may take."""
INFLATED = 320 * 2**20
"""The most bytes for a deflated DICOM file, which is unpacked up to 256 MiB."""


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def mixed(small: Small) -> Iterator[dict[str, Any]]:
    """Requests of every kind that asks no engine, refused ones among them; images differ from each other."""
    images = [path.read_bytes() for path in sorted(small.images.glob("*.png"))]
    for number, image in enumerate(cycle(images)):
        noted = image[:-12] + chunk(b"tEXt", f"number\0{number}".encode()) + image[-12:]
        post = {"method": "POST", "url": "/v1/encode", "headers": PNG}
        yield post | {"content": noted}
        yield {"method": "POST", "url": "/v1/encode", "files": {"image": (f"{number}.png", noted)}}
        yield {"method": "POST", "url": "/v1/similar", "content": noted, "headers": PNG}
        yield {"method": "GET", "url": f"/v1/features?page={number % 7 + 1}&text=t{number}"}
        yield {"method": "GET", "url": f"/v1/features/{number % 16}"}
        yield {"method": "GET", "url": "/v1/query?text=left"}
        yield {"method": "GET", "url": f"/nothing/{number}"}
        yield {"method": "GET", "url": "/metrics"}
        yield post | {"content": noted[:60]}
        yield post | {"content": bomb(9000 + number, 9000)}
        yield post | {"content": str(number).encode()}
        yield post | {"content": noted, "headers": PNG | {"host": f"h{number}.example"}}


async def sent(app: Any, requests: Sequence[dict[str, Any]]) -> Counter[int]:
    places, statuses = asyncio.Semaphore(LIMITS.requests), Counter[int]()
    transport = httpx.ASGITransport(app)

    async def one(client: httpx.AsyncClient, asked: dict[str, Any]) -> None:
        async with places:
            statuses[(await client.request(**asked)).status_code] += 1

    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        await asyncio.gather(*(one(client, asked) for asked in requests))
    return statuses


def test_two_thousand_requests_leave_nothing_behind(desk: Desk, small: Small) -> None:
    app, requests = make_app(desk, None), mixed(small)
    asyncio.run(sent(app, list(islice(requests, WARM))))
    before, statuses = resident(), Counter[int]()
    for _ in range(REQUESTS // WARM):
        statuses += asyncio.run(sent(app, list(islice(requests, WARM))))
    grown = resident() - before
    print(f"{REQUESTS} requests: {grown / 2**20:+.1f} MiB of {before / 2**20:.0f}, {dict(statuses)}")
    assert statuses.total() == REQUESTS and set(statuses) == {200, 403, 404, 413, 415, 422}
    assert grown < GROWTH


REFUSED = b"\x89PNG\r\n\x1a\n" + bytes(LIMITS.body - 2**15)
HELD = 24
"""The most refused bodies that may still be in memory of 64 that were sent."""


def as_form(field: str) -> bytes:
    """REFUSED as a file of a form. Made here: a client's own form would be held by the client."""
    part = f'--b\r\nContent-Disposition: form-data; name="{field}"; filename="x"\r\n\r\n'.encode()
    text = b'--b\r\nContent-Disposition: form-data; name="names"\r\n\r\na\r\n' if field == "images" else b""
    return text + part + REFUSED + b"\r\n--b--\r\n"


LARGE: dict[str, tuple[str, bytes, str]] = {
    "an image": ("/v1/encode", REFUSED, "image/png"),
    "an image to compare": ("/v1/similar", REFUSED, "image/png"),
    "an image in a form": ("/v1/encode", as_form("image"), FORM),
    "an image to ask about": ("/v1/detect", as_form("images"), FORM),
    "a part that is not known": ("/v1/encode", as_form("picture"), FORM),
    "a chat of bytes": ("/v1/chat/completions", REFUSED, "application/json"),
    "a chat that is no JSON": ("/v1/chat/completions", b"[" + b" " * len(REFUSED), "application/json"),
    "a chat that is none": ("/v1/chat/completions", b'{"a": "%s"}' % (b"x" * len(REFUSED)), "application/json"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_refused_body_is_let_go_without_waiting_for_the_collector(naming_client: TestClient, kind: str) -> None:
    path, body, content_type = LARGE[kind]
    sent: dict[str, Any] = {"content": body, "headers": {"content-type": content_type}}
    assert naming_client.post(path, **sent).is_client_error
    gc.collect()
    gc.disable()
    try:
        before = resident()
        for _ in range(64):
            naming_client.post(path, **sent)
        grown = resident() - before
    finally:
        gc.enable()
    print(f"{kind}: {grown / 2**20:+.1f} MiB")
    assert grown < HELD * len(REFUSED)


def text_bomb(kind: bytes) -> bytes:
    """A PNG with a text or a colour profile of 200 MB of zeros."""
    packer = zlib.compressobj()
    packed = b"".join(packer.compress(bytes(2**20)) for _ in range(200)) + packer.flush()
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(bytes(4 * 5)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(kind, b"x\0\0" + packed) + pixels + chunk(b"IEND", b"")


BOMBS = {
    "a square": lambda maker: bomb(20_000, 20_000),
    "a line": lambda maker: bomb(1, 40_000_001),
    "the largest square": lambda maker: bomb(2**31 - 1, 2**31 - 1),
    "a text": lambda maker: text_bomb(b"zTXt"),
    "a profile": lambda maker: text_bomb(b"iCCP"),
    "a deflated DICOM": deflate_bomb,
    "sequences in sequences": lambda maker: nested_sequences(maker, 200_000),
    "rows that are not there": lambda maker: maker.small(Rows=65535, Columns=65535),
    "frames that are not there": lambda maker: maker.small(NumberOfFrames=1_000_000),
}


def peak() -> int:
    """The most memory of this process since `forget_peak`."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


@pytest.fixture(scope="module")
def usual(small: Small) -> TestClient:
    """A service with its usual bounds, within which each of these bombs is."""
    app = make_app(Desk(small.run, None, RequestLimits()), None)
    return TestClient(app, "http://localhost", raise_server_exceptions=False)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_in_time_and_does_not_swell(usual: TestClient, tmp_path: Path, kind: str) -> None:
    data = BOMBS[kind](Maker(tmp_path, 1))
    forget_peak()
    before, begun = peak(), time.process_time()
    answer = usual.post("/v1/encode", content=data, headers=PNG)
    took, grown = time.process_time() - begun, peak() - before
    print(f"{kind}: {len(data)} bytes, {answer.json()['error']['code']}, {took:.2f} s, {grown / 2**20:+.1f} MiB")
    assert answer.status_code in (413, 422) and took < BOMB_S
    assert grown < (INFLATED if kind == "a deflated DICOM" else SWELLS)


def test_a_peak_is_noticed() -> None:
    forget_peak()
    before = peak()
    assert len(b"x" * (2 * SWELLS)) and peak() - before > SWELLS
