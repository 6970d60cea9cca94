"""What `medsae serve` takes of memory, and of its other callers' time, while it is asked for too much.

    python benchmarks/service_attack.py --root ROOT [--recipe phantom] [--images 1600] [--only SECTION ...]

ROOT holds a finished run of the recipe, which has an engine. The sections: `bodies` of 31 MiB, `pictures` of 39.7
megapixels, `schemas` that are bombs or the costliest of those taken, and different `images` for the engine. At the end
the command is killed, and its processes are watched until the last is gone.
"""

import argparse
import asyncio
import contextlib
import io
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import httpx
import numpy as np
import psutil
from PIL import Image

from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render
from medsae_ray.service.address import listen

PNG = {"content-type": "image/png"}
BODY = b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(31 * 2**20)
TEXT = {"type": "string"}
BOMB = {
    "type": "array", "minItems": 100_000, "maxItems": 1_000_000, "items": {"type": "string", "minLength": 100_000}
}  # fmt: skip


class Served(NamedTuple):
    """A service, its command, its replica and its engine."""

    url: str
    command: psutil.Process
    replica: psutil.Process
    engine: psutil.Process


def main() -> None:
    """Attack in the chosen sections and print what they cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True)
    parser.add_argument("--recipe", default="phantom")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--seconds", type=float, default=15.0, help="how long neighbours of each schema are timed")
    parser.add_argument("--callers", type=int, default=6, help="who ask for a schema at the same time")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    chosen = parser.parse_args()
    with serving(chosen.recipe, chosen.root) as served:
        for name in chosen.only:
            print(f"{name}: load {os.getloadavg()[0]:.1f}")
            asyncio.run(SECTIONS[name](served, chosen))


@contextlib.contextmanager
def serving(recipe: str, root: str) -> Iterator[Served]:
    """Run `medsae serve` for the block, and kill it in the end."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "medsae_ray.cli", "serve", recipe, "--root", root, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        url, begun = f"http://127.0.0.1:{port}", time.monotonic()
        while not well(url):
            assert process.poll() is None, "the service has ended"
            time.sleep(1)
        print(f"ready after {time.monotonic() - begun:.0f} s")
        processes = psutil.Process(process.pid).children(recursive=True)
        try:
            yield Served(url, psutil.Process(process.pid), *(named(processes, name) for name in TITLES))
        finally:
            begun = time.monotonic()
            process.kill()
            _, left = psutil.wait_procs(processes, timeout=90)
            print(
                f"killed: of {len(processes)} processes the last was gone after {time.monotonic() - begun:.1f} s", left
            )


TITLES = ("ServeReplica:medsae-service", "EngineCore")


def named(processes: list[psutil.Process], title: str) -> psutil.Process:
    """Return the process with this in its title."""
    return next(process for process in processes if title in " ".join(process.cmdline()))


def well(url: str) -> bool:
    """Return True if the service answers that it is ready."""
    with contextlib.suppress(httpx.HTTPError):
        return httpx.get(f"{url}/v1/health/ready", timeout=20).status_code == 200
    return False


class Peak:
    """The most resident memory of a process within a block, in MB, from samples every 20 ms."""

    def __init__(self, process: psutil.Process) -> None:
        self.process, self.before = process, megabytes(process)
        self.most, self.over, self.begun = self.before, threading.Event(), time.monotonic()

    def __enter__(self) -> "Peak":
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.seconds = time.monotonic() - self.begun
        self.over.set()
        self.thread.join()
        time.sleep(2)
        self.after = megabytes(self.process)

    def _watch(self) -> None:
        while not self.over.wait(0.02):
            self.most = max(self.most, megabytes(self.process))

    def __str__(self) -> str:
        return f"{self.before} MB before, {self.most} at most, {self.after} after, {self.seconds:.1f} s"


def megabytes(process: psutil.Process) -> int:
    """Return the resident memory of a process in MB."""
    return int(process.memory_info().rss / 1e6)


async def bodies(served: Served, chosen: argparse.Namespace) -> None:
    """60 bodies of 31 MiB one after the other, then 40 at once."""
    async with caller(served) as client:
        for name, times, at_once in (("60 in turn", 60, 1), ("40 at once", 40, 40)):
            with Peak(served.replica) as peak:
                statuses = await many(lambda: client.post("/v1/encode", content=BODY, headers=PNG), times, at_once)
            print(f"  {name}: {peak}, {statuses}")


async def pictures(served: Served, chosen: argparse.Namespace) -> None:
    """16 pictures of 39.7 megapixels and 16 bits encoded at once, then 8 detections of 16 such pictures each."""
    stream = io.BytesIO()
    Image.fromarray(np.full((6300, 6300), 999, np.uint16)).save(stream, "PNG")
    picture = stream.getvalue()
    films = [("images", picture)] * 16
    async with caller(served) as client:
        with Peak(served.replica) as peak:
            statuses = await many(lambda: client.post("/v1/encode", content=picture, headers=PNG), 16, 16)
        print(f"  16 pictures of {len(picture)} bytes: {peak}, {statuses}")
        with Peak(served.replica) as peak:
            statuses = await many(lambda: client.post("/v1/detect", files=films, data={"names": "a"}), 8, 8)
        print(f"  8 detections of 16 pictures: {peak}, {statuses}")


async def schemas(served: Served, chosen: argparse.Namespace) -> None:
    """Time a neighbour's detections, alone and beside callers of chats, who ask for a schema again and again."""
    async with caller(served) as client:
        model = (await client.get("/v1/models")).json()["data"][0]["id"]
        for name, schema in {"nobody": None, "no schema": {}, **costly()}.items():
            form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
            body = {"model": model, "messages": [{"role": "user", "content": "What?"}], "max_tokens": 1}
            body |= {"response_format": form} if schema else {}
            over, asked = asyncio.Event(), Counter[int]()

            async def ask(body: dict[str, Any] = body) -> None:
                while not over.is_set():  # noqa: B023 - called within its turn of the loop
                    asked[(await client.post("/v1/chat/completions", json=body)).status_code] += 1  # noqa: B023

            others = [asyncio.create_task(ask()) for _ in range(chosen.callers)] if schema is not None else []
            waits = await neighbour(client, chosen.seconds)
            over.set()
            await asyncio.gather(*others)
            print(
                f"  beside {name}: {len(waits)} detections, median {1000 * statistics.median(waits):.0f} ms, longest "
                f"{1000 * max(waits):.0f} ms; chats {dict(asked)}"
            )


def costly() -> dict[str, dict[str, Any]]:
    """Return a bomb, and schemas that are taken and cost the engine most, each with its name."""

    def wide(number: int, part: dict[str, Any]) -> dict[str, Any]:
        return {"type": "object", "properties": {f"p{i}": part for i in range(number)}}

    lists = {f"p{i}": {"type": "array", "maxItems": 990 + i, "items": TEXT} for i in range(9)}
    return {
        "the bomb": BOMB,
        "a small schema": wide(1, TEXT),
        "64 formats": wide(64, {"type": "string", "format": "uri"}),
        "64 bounded numbers": wide(64, {"type": "integer", "minimum": -(10**18), "maximum": 10**18}),
        "256 properties with steps": wide(256, {"type": "integer", "multipleOf": 97}),
        "nine lists of 1,000 texts": {"type": "object", "properties": lists},
    }


async def neighbour(client: httpx.AsyncClient, seconds: float) -> list[float]:
    """Ask for detections on new films one after the other; return the seconds that each took."""
    waits, until, films = list[float](), time.monotonic() + seconds, different(7)
    while time.monotonic() < until:
        film, begun = next(films), time.monotonic()
        answer = await client.post("/v1/detect", files={"images": film}, data={"names": "effusion"})
        assert answer.status_code == 200, answer.text
        waits.append(time.monotonic() - begun)
        await asyncio.sleep(0.1)
    return waits


async def images(served: Served, chosen: argparse.Namespace) -> None:
    """Detections on different films by eight callers; the engine's memory after each quarter."""
    films, before, begun = different(8), megabytes(served.engine), time.monotonic()
    async with caller(served) as client:

        async def detect() -> httpx.Response:
            return await client.post("/v1/detect", files={"images": next(films)}, data={"names": "effusion"})

        print(f"  engine: {before} MB before")
        for part in range(1, 5):
            statuses = await many(detect, chosen.images // 4, 8)
            took = f"{time.monotonic() - begun:.0f} s"
            print(f"  after {part * chosen.images // 4} films: {megabytes(served.engine)} MB, {took}, {statuses}")


def different(seed: int) -> Iterator[bytes]:
    """Yield films, none like another."""
    film, draw = render(next(iter(patient(77, 0)))), np.random.default_rng(seed)
    while True:
        stream = io.BytesIO()
        noise = draw.integers(-9, 9, film.shape)
        Image.fromarray(np.clip(film.astype(int) + noise, 0, 255).astype(np.uint8)).save(stream, "PNG")
        yield stream.getvalue()


def caller(served: Served) -> httpx.AsyncClient:
    """Return a client with as many connections as it likes, and patience."""
    return httpx.AsyncClient(base_url=served.url, timeout=300, limits=httpx.Limits(max_connections=None))


async def many(ask: Callable[[], Awaitable[httpx.Response]], times: int, at_once: int) -> dict[str, int]:
    """Ask so often, and count the statuses; a connection that ends before all is sent counts as closed."""
    statuses, places = Counter[str](), asyncio.Semaphore(at_once)

    async def one() -> None:
        async with places:
            try:
                statuses[str((await ask()).status_code)] += 1
            except httpx.TransportError:
                statuses["closed"] += 1

    await asyncio.gather(*(one() for _ in range(times)))
    return dict(statuses)


SECTIONS = {"bodies": bodies, "pictures": pictures, "schemas": schemas, "images": images}

if __name__ == "__main__":
    main()
