"""Writers of judgements in processes of their own, each killed at random moments."""

import multiprocessing
import os
import random
import threading
import time
from multiprocessing.connection import Connection
from typing import Any

from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.judgements.log import Log
from tests.core.judgements.made import judgement
from tests.support.outage import SETTINGS


def write(uri: str, writer: int, told: Connection, to_do: list[int]) -> None:
    """Add judgements one by one, and tell each that is safe."""
    os.environ.update(SETTINGS)
    log = Log(Store(uri))
    for number in to_do:
        told.send(log.add(judgement(number, reader=f"r{writer}")).feature)


def kill_again_and_again(uri: str, writers: int, each: int, seed: int) -> tuple[list[set[int]], int]:
    """Processes that write while each is killed at random moments, and then go on with what they were not told of.
    Returns what was told to each, and the number of kills."""
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(["medsae_ray.core.judgements.log", __name__])
    told: list[set[int]] = [set() for _ in range(writers)]
    kills = [0] * writers

    def live(writer: int) -> None:
        draw = random.Random(seed + writer)
        wanted = range(writer * each, (writer + 1) * each)
        while left := [number for number in wanted if number not in told[writer]]:
            hear, tell = server.Pipe(False)
            process: Any = server.Process(target=write, args=(uri, writer, tell, left))
            process.start()
            tell.close()
            try:
                for _ in range(draw.randint(1, each // 2)):
                    told[writer].add(hear.recv())
                time.sleep(draw.uniform(0, 0.02))
                process.kill()
                kills[writer] += 1
                while True:  # what it told before it died
                    told[writer].add(hear.recv())
            except EOFError:
                process.join()

    threads = [threading.Thread(target=live, args=(writer,)) for writer in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return told, sum(kills)
