"""The service over a real socket, in a thread or in a process that may be killed."""

import contextlib
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI

from medsae_ray.finished import Finished
from medsae_ray.service.app import make_app
from medsae_ray.service.desk import Desk
from medsae_ray.service.limits import RequestLimits


@contextlib.contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """The address of an app that a thread serves."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Lives:
    """A service of a run at a port, in a process that can be killed and started again. A process that is forked now
    forks each of them, as by then this one has threads."""

    def __init__(self, run: Finished, port: int) -> None:
        self.port = port
        self._orders, orders = multiprocessing.Pipe()
        self._nurse = multiprocessing.get_context("fork").Process(target=_nurse, args=(run, port, orders))
        self._nurse.start()

    def start(self) -> None:
        """Start it, and return once it answers."""
        self._orders.send("start")
        self._orders.recv()
        while not self._answers():
            time.sleep(0.01)

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._orders.send("kill")
        self._orders.recv()

    def end(self) -> None:
        """End both processes."""
        self.kill()
        self._nurse.kill()
        self._nurse.join()

    def _answers(self) -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port}/v1/health/live").is_success
        except httpx.TransportError:
            return False


def _nurse(run: Finished, port: int, orders: Any) -> None:
    child = 0
    while True:
        if orders.recv() == "start":
            child = os.fork()
            if not child:
                app = make_app(Desk(run, None, RequestLimits()), None)
                uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")
                os._exit(1)
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        orders.send(child)
