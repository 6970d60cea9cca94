"""uvicorn on a socket that is open already, in a thread of its own: it stops accepting at once, and then finishes."""

import asyncio
import socket
import threading

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from medsae_ray.service.address import BACKLOG
from medsae_ray.service.wire import bounded

FIRST_S = 0.5
"""The seconds in which a connection accepted last of all brings its request; uvicorn would close it at once."""


class _Server(uvicorn.Server):
    """A server that says when it accepts no connection any more."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.deaf = threading.Event()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        self.deaf.set()
        await asyncio.sleep(FIRST_S)
        await super().shutdown(sockets)


class Listener:
    """Answers at `listening`, whose copy it closes in the end, until `close`. `patience_s` is the longest wait for
    answers that are under way then."""

    def __init__(self, app: ASGIApp, listening: socket.socket, patience_s: float) -> None:
        config = uvicorn.Config(
            app,
            http=bounded(AutoHTTPProtocol),
            interface="asgi3",
            proxy_headers=False,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=round(patience_s),
        )
        self._server = _Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening.dup()],), daemon=True)
        self._thread.start()

    @property
    def runs(self) -> bool:
        """True until it has finished, or failed."""
        return self._thread.is_alive()

    def close(self) -> None:
        """Accept no further connection, and return once that is so. What is under way goes on until `join`."""
        self._server.should_exit = True
        while self.runs and not self._server.deaf.wait(0.05):
            pass

    def join(self) -> None:
        """Wait until the last answer is sent, or the patience is over."""
        self._thread.join()
