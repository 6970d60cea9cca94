"""Hostile requests to a running service over HTTP, and its memory before and after.

    python benchmarks/fuzz_service.py                                  a small run of its own, on a cluster of its own
    python benchmarks/fuzz_service.py --url http://127.0.0.1:8000 --pid PID    a service that runs already

The token is read from MEDSAE_TOKEN. Exit status 1 if there was a 5xx, an answer in another form or a request that hung,
or if the resident memory grew by more than a tenth.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.service.hostile import Hostile, hostile

LIMIT = 32 * 2**20
TOKEN = "correct-horse-battery"
HUNG_S = 60.0


@contextlib.contextmanager
def small_service(port: int) -> Iterator[str]:
    """A run of 60 pictures, served with the token of this file."""
    import ray

    from medsae_ray.config import parse_recipe
    from medsae_ray.finished import open_run
    from medsae_ray.pipeline import run_recipe
    from medsae_ray.service.command import http
    from medsae_ray.service.deployment import deployed
    from medsae_ray.service.limits import RequestLimits
    from medsae_ray.service.middleware import digest
    from tests.support.small import onnx_encoder, recipe_data, table_dataset

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        table = table_dataset(folder / "data", 60)
        recipe = parse_recipe(recipe_data(table, onnx_encoder(folder / "e.onnx"), engine="loop"))
        run_recipe(recipe, str(folder / "root"))
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        run = open_run(recipe, str(folder / "root"))
        with http("127.0.0.1", port, RequestLimits()), deployed(run, digest(TOKEN)):
            yield f"http://127.0.0.1:{port}"
        ray.shutdown()


def replicas() -> list[psutil.Process]:
    """The service's replica and Serve's proxy, among the processes of this one's cluster."""
    ours = psutil.Process().children(recursive=True)
    return [process for process in ours if re.match(r"ray::(ProxyActor|ServeReplica:medsae-service)", _title(process))]


def _title(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def memory(processes: list[psutil.Process]) -> int:
    """Resident bytes."""
    return sum(process.memory_info().rss for process in processes)


async def send(client: httpx.AsyncClient, asked: Hostile, seen: Counter[str]) -> None:
    """Send one request and count its outcome in `seen`; print the first wrong ones."""
    try:
        headers = {name.encode(): value for name, value in asked.headers.items()}
        answer = await client.request(asked.method, asked.path, headers=headers, content=asked.body)
    except httpx.TimeoutException:
        seen["hung"] += 1
        return
    except httpx.TransportError:  # refused while the body was still being sent
        seen["closed"] += 1
        return
    seen[str(answer.status_code)] += 1
    wrong = answer.status_code >= 500 and not (answer.status_code == 503 and "no_engine" in answer.text)
    if wrong or (answer.status_code >= 400 and asked.method != "HEAD" and '"error"' not in answer.text):
        seen["wrong"] += 1
        if seen["wrong"] <= 5:
            print("wrong:", answer.status_code, answer.text[:200], asked.method, asked.path, asked.headers)


async def attack(url: str, token: str, requests: int, at_once: int, seed: int) -> Counter[str]:
    """Send many hostile requests, some at once, and return the outcomes. AssertionError if the service does not answer
    afterwards."""
    seen: Counter[str] = Counter()
    draw = random.Random(seed)
    todo = iter(range(requests))

    async def worker() -> None:
        for _ in todo:
            await send(client, hostile(draw, token, LIMIT), seen)

    async with httpx.AsyncClient(base_url=url, timeout=HUNG_S) as client:
        await asyncio.gather(*(worker() for _ in range(at_once)))
        alive = await client.get("/v1/health/live")
        assert alive.status_code == 200, "the service does not live any more"
    return seen


def main() -> int:
    """Attack a service and return 0 if it held, 1 if not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a service that runs already; without it one is started")
    parser.add_argument("--pid", type=int, nargs="*", default=[], help="processes whose memory is watched, with --url")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    token = os.environ.get("MEDSAE_TOKEN", "") if chosen.url else TOKEN
    with contextlib.nullcontext(chosen.url) if chosen.url else small_service(chosen.port) as url:
        watched = [psutil.Process(pid) for pid in chosen.pid] or replicas()
        # What the first requests load and the allocator keeps is no leak.
        asyncio.run(attack(url, token, chosen.requests // 10, chosen.at_once, chosen.seed + 1))
        before, start = memory(watched), time.perf_counter()
        seen = asyncio.run(attack(url, token, chosen.requests, chosen.at_once, chosen.seed))
        seconds = time.perf_counter() - start
        time.sleep(5)
        after = memory(watched)
    print(f"{chosen.requests} requests in {seconds:.0f} s: {dict(sorted(seen.items()))}")
    print(f"memory of {len(watched)} processes: {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")
    return int(seen["wrong"] + seen["hung"] > 0 or not watched or after > 1.1 * before)


if __name__ == "__main__":
    sys.exit(main())
