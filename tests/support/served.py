"""The service over a real socket, in a thread or in a process that may be killed."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI

from medsae_ray.config import Recipe
from medsae_ray.finished import open_run
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


def serve_run(recipe: Recipe, root: str, port: int) -> None:
    """Serve a finished run at a port until the process is killed."""
    desk: Any = Desk(open_run(recipe, root), None, RequestLimits())
    uvicorn.run(make_app(desk, None), host="127.0.0.1", port=port, log_level="error")
