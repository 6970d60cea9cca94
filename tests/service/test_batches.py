"""Items of many callers in one batch: each gets its own result, and nobody waits without need."""

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medsae_ray.service.batches import Batches
from medsae_ray.service.desk import Desk
from tests.service.conftest import Small

THREADS = ThreadPoolExecutor(1)  # so that items come in their order


class Gate:
    """Doubles numbers, once it is open; the negative ones are at fault."""

    def __init__(self) -> None:
        self.entered, self.open, self.sizes = threading.Event(), threading.Event(), list[int]()

    def __call__(self, items: Sequence[int]) -> list[int | Exception]:
        self.entered.set()
        self.open.wait(10)
        if 13 in items:
            raise RuntimeError("all of them")
        return [2 * item if item >= 0 else ValueError(item) for item in items]


async def add(batches: Batches[int, int], item: int) -> int:
    def prepare() -> int:
        if item == 99:
            raise ValueError("no number")
        return item

    return await batches.add(prepare, THREADS)


async def ask(batches: Batches[int, int], gate: Gate, items: Sequence[int]) -> list[int | BaseException]:
    """The first item is with the worker before the others come, and nothing is answered before all have come."""
    first = asyncio.ensure_future(add(batches, items[0]))
    await asyncio.sleep(0)
    await asyncio.to_thread(gate.entered.wait)
    others = [asyncio.ensure_future(add(batches, item)) for item in items[1:]]
    await asyncio.sleep(0.01)
    gate.open.set()
    return await asyncio.gather(first, *others, return_exceptions=True)


def test_what_waits_is_one_batch_and_each_caller_gets_its_own_result() -> None:
    gate = Gate()
    answers = asyncio.run(ask(Batches(gate, 5, 1, gate.sizes.append), gate, [*range(10), -1, 20]))
    assert answers[:10] == [2 * n for n in range(10)] and answers[11] == 40 and isinstance(answers[10], ValueError)
    while sum(gate.sizes) < 12:
        pass
    assert gate.sizes == [1, 5, 5, 1]


def test_two_workers_share_what_waits() -> None:
    gate = Gate()
    batches = Batches(gate, 100, 2, gate.sizes.append)
    asyncio.run(ask(batches, gate, range(13 - 1)))
    assert max(gate.sizes) <= 6 and sum(gate.sizes) <= 12


def test_a_failure_is_told_to_its_batch_and_the_worker_goes_on() -> None:
    gate = Gate()
    gate.open.set()
    batches = Batches(gate, 5, 1)

    async def twice() -> int:
        with pytest.raises(RuntimeError, match="all of them"):
            await add(batches, 13)
        with pytest.raises(ValueError, match="no number"):
            await add(batches, 99)
        return await add(batches, 4)

    assert asyncio.run(twice()) == 8


def test_a_caller_who_has_left_is_not_computed() -> None:
    gate = Gate()
    batches = Batches(gate, 5, 1, gate.sizes.append)

    async def leave() -> None:
        first = asyncio.ensure_future(add(batches, 1))
        await asyncio.sleep(0)
        await asyncio.to_thread(gate.entered.wait)
        second = asyncio.ensure_future(add(batches, 2))
        await asyncio.sleep(0.01)
        second.cancel()
        await asyncio.sleep(0.01)
        gate.open.set()
        assert await first == 2 and await add(batches, 3) == 6

    asyncio.run(leave())
    assert gate.sizes == [1, 1]


def test_a_batch_has_the_features_of_its_images_one_by_one(small: Small, desk: Desk) -> None:
    images = [Image.open(path).convert("L") for path in sorted(Path(small.images).glob("*.png"))]
    alone = [desk.encoder.active(image) for image in images]
    together = desk.encoder.active_of([desk.encoder.pixels(image) for image in images])
    for one, other in zip(alone, together, strict=True):
        assert not isinstance(other, Exception) and one.feature == other.feature
        assert np.allclose(one.value, other.value, atol=1e-6)
