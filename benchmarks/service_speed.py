"""The service against a plain FastAPI + torch loop in one run: requests per second, latencies, 500 requests at once.

    python benchmarks/service_speed.py --root ROOT [--recipe phantom] [--rounds 3] [--seconds 6]

ROOT holds a finished run of the recipe. The service runs as `medsae serve` runs it, but without its engine. The loop
below (`baseline`) has the same decoder, encoder, SAE, names and threads. Rounds alternate between the two. With --port
a service that runs already on this machine is measured alone; MEDSAE_TOKEN has its token.
"""

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from medsae_ray.config import load_recipe
from medsae_ray.core.phantom import patient
from medsae_ray.core.phantom.render import render
from medsae_ray.finished import Finished, open_run

CLIENTS = (1, 4, 16)
CROWD = 500


def baseline(recipe: str, root: str, port: int) -> None:
    """Serve `/v1/encode` by a plain loop, for ever."""
    from concurrent.futures import ThreadPoolExecutor

    import uvicorn
    from fastapi import FastAPI, Request

    from medsae_ray.service.atlas import Atlas
    from medsae_ray.service.image_encoder import ImageEncoder
    from medsae_ray.service.limits import RequestLimits
    from medsae_ray.service.uploads import Budget, Uploads

    run = open_run(load_recipe(recipe), root)
    encoder, atlas, limits = ImageEncoder(run), Atlas(run.atlas), RequestLimits()
    uploads = Uploads.of(run.recipe.what.images, limits, Budget(limits.pixels), encoder.side)
    threads, app = ThreadPoolExecutor(limits.threads), FastAPI()

    def features(data: bytes) -> dict[str, object]:
        image = uploads.image(data, "image")
        active = encoder.active(image)
        strongest = sorted(zip(active.value, active.feature, strict=True), reverse=True)
        named = [atlas.name(feature) | {"activation": value} for value, feature in strongest]
        return {"width": image.width, "height": image.height, "features": [f for f in named if f["name"]][:10]}

    @app.post("/v1/encode")
    async def encode(request: Request) -> dict[str, object]:
        data = await request.body()
        return await asyncio.get_running_loop().run_in_executor(threads, features, data)

    uvicorn.run(app, port=port, log_level="error")


class Reply(NamedTuple):
    """An answer: its status, when it was asked and whole (s), and the seconds that it asks to wait."""

    status: int
    asked: float
    whole: float
    retry_s: float

    @property
    def seconds(self) -> float:
        """The wait for it."""
        return self.whole - self.asked


class Client:
    """A connection of HTTP/1.1 that is kept open. Nothing but the standard library, which costs least here."""

    def __init__(self, port: int, image: bytes) -> None:
        head = f"POST /v1/encode HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: {len(image)}"
        token = os.environ.get("MEDSAE_TOKEN")
        head += f"\r\nAuthorization: Bearer {token}" if token else ""
        self.port, self.request = port, f"{head}\r\n\r\n".encode() + image
        self.wire: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> Reply:
        """Send the request and wait for its whole answer; status 0 if the connection ends instead."""
        asked = time.perf_counter()
        try:
            reader, writer = self.wire = self.wire or await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(self.request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
            # Ray Serve's own refusals come in chunks.
            await (reader.readexactly(int(size[1])) if size else reader.readuntil(b"0\r\n\r\n"))
        except (OSError, asyncio.IncompleteReadError):
            self.wire = None
            return Reply(0, asked, time.perf_counter(), 0)
        retry = re.search(r"retry-after: (\d+)", head, re.IGNORECASE)
        if "connection: close" in head.lower():
            self.wire = None
        return Reply(int(head.split()[1]), asked, time.perf_counter(), float(retry[1]) if retry else 0)


async def steady(port: int, image: bytes, clients: int, seconds: float) -> list[Reply]:
    """Ask with so many clients, each again as soon as it is answered, or when it was told to."""
    until = time.perf_counter() + seconds

    async def one() -> list[Reply]:
        client, replies = Client(port, image), list[Reply]()
        while time.perf_counter() < until:
            replies.append(await client.ask())
            await asyncio.sleep(replies[-1].retry_s)
        return replies

    return [reply for replies in await asyncio.gather(*(one() for _ in range(clients))) for reply in replies]


async def burst(port: int, image: bytes, clients: int) -> list[Reply]:
    """Ask once with each of so many clients, all at once, over connections that are open already."""
    asking = [Client(port, image) for _ in range(clients)]
    for client in asking:
        client.wire = await asyncio.open_connection("127.0.0.1", port)
    return await asyncio.gather(*(client.ask() for client in asking))


def quantile(values: list[float], share: float) -> float:
    """Return a quantile in ms; NaN of nothing."""
    return 1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def figures(replies: list[Reply]) -> dict[str, float]:
    """Return rate, latencies and refusals of the replies."""
    good = [reply for reply in replies if reply.status == 200]
    refused = [reply.seconds for reply in replies if reply.status in (429, 503)]
    span = max((r.whole for r in good), default=0) - min(r.asked for r in replies)
    waits = [reply.seconds for reply in good]
    return {
        "rate": len(good) / span if good else 0.0,
        "p50": quantile(waits, 0.5),
        "p99": quantile(waits, 0.99),
        "answered": len(good),
        "refused": len(refused),
        "other": len(replies) - len(good) - len(refused),
        "refused_p50": quantile(refused, 0.5),
    }


@contextlib.contextmanager
def service(run: Finished) -> Iterator[int]:
    """Run the service at a free port, on a cluster of its own."""
    import ray

    from medsae_ray.service.address import listen
    from medsae_ray.service.command import serving
    from medsae_ray.service.deployment import deployed
    from medsae_ray.service.door import Door

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    listening = listen("127.0.0.1", 0)
    with Door(listening, 2) as door, serving(), deployed(run, None, door=door.path):
        yield listening.getsockname()[1]
    ray.shutdown()


@contextlib.contextmanager
def loop(recipe: str, root: str) -> Iterator[int]:
    """Run the baseline in a process of its own."""
    from medsae_ray.service.address import listen

    with listen("127.0.0.1", 0) as free:
        port = int(free.getsockname()[1])
    command = [sys.executable, __file__, "--root", root, "--recipe", recipe, "--baseline", str(port)]
    process = subprocess.Popen(command, env=os.environ)
    try:
        yield port
    finally:
        process.kill()
        process.wait()


def radiograph() -> bytes:
    """Return a phantom radiograph as PNG."""
    stream = io.BytesIO()
    Image.fromarray(render(next(iter(patient(77, 0))))).save(stream, "PNG")
    return stream.getvalue()


def ready(port: int, image: bytes) -> None:
    """Wait until images are encoded."""
    while asyncio.run(Client(port, image).ask()).status != 200:
        time.sleep(0.5)


def main() -> None:
    """Measure, and print a table and all figures as JSON."""
    chosen = arguments()
    if chosen.baseline:
        baseline(chosen.recipe, chosen.root, chosen.baseline)
    image = Path(chosen.image).read_bytes() if chosen.image else radiograph()
    with contextlib.ExitStack() as open_:
        if chosen.port:
            measured = {"service": chosen.port}
        else:
            run = open_run(load_recipe(chosen.recipe), chosen.root)
            what = run.recipe.what.model_copy(update={"naming": None})
            run = replace(run, recipe=run.recipe.model_copy(update={"what": what}))
            theirs = open_.enter_context(loop(chosen.recipe, chosen.root))
            measured = {"loop": theirs, "service": open_.enter_context(service(run))}
        report(measure(measured, image, chosen.rounds, chosen.seconds))


Rounds = dict[tuple[str, str], list[dict[str, float]]]
"""The figures of each round, by the number of clients and whom they ask."""


def measure(ports: dict[str, int], image: bytes, times: int, seconds: float) -> Rounds:
    """Measure the services at these ports in turn."""
    rounds: Rounds = {}
    for port in ports.values():
        ready(port, image)
        asyncio.run(steady(port, image, 4, 2))
    for _ in range(times):
        for clients in CLIENTS:
            for name, port in ports.items():
                found = figures(asyncio.run(steady(port, image, clients, seconds)))
                rounds.setdefault((str(clients), name), []).append(found)
        for name, port in ports.items():
            rounds.setdefault(("burst", name), []).append(figures(asyncio.run(burst(port, image, CROWD))))
        found = figures(asyncio.run(steady(ports["service"], image, CROWD, seconds)))
        rounds.setdefault(("crowd", "service"), []).append(found)
    return rounds


def report(rounds: Rounds) -> None:
    """Print the medians over the rounds, and every round."""
    print(
        f"{'clients':8} {'who':8} {'rate':>8} {'p50':>8} {'p99':>8} {'200':>6} {'429':>6} {'other':>6} {'429 p50':>8}"
    )
    for (clients, name), found in rounds.items():
        row = {key: statistics.median(one[key] for one in found) for key in found[0]}
        print(f"{clients:8} {name:8} " + " ".join(f"{row[key]:8.1f}" for key in ("rate", "p50", "p99")), end=" ")
        print(" ".join(f"{row[key]:6.0f}" for key in ("answered", "refused", "other")), f"{row['refused_p50']:8.1f}")
    for clients in [str(number) for number in CLIENTS if (str(number), "loop") in rounds]:
        pairs = zip(rounds[clients, "service"], rounds[clients, "loop"], strict=True)
        print(f"{clients} clients: ratio of each round", [round(a["rate"] / b["rate"], 2) for a, b in pairs])
    print(json.dumps({" ".join(key): found for key, found in rounds.items()}))


def arguments() -> argparse.Namespace:
    """Return the command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root")
    parser.add_argument("--port", type=int, help="of a service that runs already")
    parser.add_argument("--recipe", default="phantom")
    parser.add_argument("--image", help="a PNG file to send; a phantom radiograph by default")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--baseline", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
