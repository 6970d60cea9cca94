"""Judgements that clients send while the service is killed at random moments: what was acknowledged is there, once."""

import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from medsae_ray import Client
from medsae_ray.client import attempts
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import Log
from medsae_ray.service.desk import Desk
from tests.conftest import free_port
from tests.service.test_judgements import judged
from tests.support.served import Lives

__all__ = ["judged"]  # a fixture
WRITERS, EACH, KILLS = 8, 125, 4


@pytest.fixture
def lives(judged: Desk) -> Iterator[Lives]:
    found = Lives(judged.run, free_port())
    yield found
    found.end()


def test_a_killed_service_loses_and_doubles_nothing(
    lives: Lives, judged: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "FIRST_S", 0.05)  # the service is back at once
    monkeypatch.setattr(attempts, "LONGEST_S", 0.1)
    acknowledged: list[list[str]] = [[] for _ in range(WRITERS)]
    draw = random.Random(11)

    def write(writer: int) -> None:
        with Client(f"http://127.0.0.1:{lives.port}", patience_s=60) as client:
            for number in range(EACH):
                said, key = ("agree", "disagree", "unsure")[number % 3], f"key-{writer:02d}-{number:04d}"
                kept = client.judge(number % 24, "vote", said, reader=f"r{writer}", key=key)
                acknowledged[writer].append(kept.key)

    def count() -> int:
        return sum(map(len, acknowledged))

    told_at_kill = []
    with ThreadPoolExecutor(WRITERS) as threads:
        writers = [threads.submit(write, writer) for writer in range(WRITERS)]
        for kill in range(KILLS):
            lives.start()
            until = WRITERS * EACH * (kill + draw.random()) / (KILLS + 1)
            while count() < until and not any(one.done() and one.exception() for one in writers):
                time.sleep(0.001)
            lives.kill()
            told_at_kill.append(count())
        lives.start()
        for one in writers:
            one.result()
    root = Path(judged.run.atlas.store.uri).parent
    found = Log(Store(str(root))).read()
    keys = [one.key for one in found.judgements]
    assert told_at_kill == sorted(set(told_at_kill)) and told_at_kill[-1] < WRITERS * EACH, "they wrote at each kill"
    assert sorted(keys) == sorted(key for told in acknowledged for key in told)
    assert len(set(keys)) == WRITERS * EACH
    lines = (root / "judgements/judgements.jsonl").read_text().splitlines()
    assert len(lines) == WRITERS * EACH + found.unreadable
