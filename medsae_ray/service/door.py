"""The listening socket of `medsae serve`, which the command opens first of all and lends to the replica.

The kernel hands a connection straight to whoever accepts on the socket: the replica while it runs, else the command
itself, which answers 503 and says why. So a request takes no hop through a proxy, and a service that starts, is lost or
stops is told in the documented form instead of by a refused connection.

The replica asks for the socket at a Unix socket in a folder that only this user can open, and gets it as SCM_RIGHTS of
unix(7). The connection to it then tells both sides of each other's end.
"""

import contextlib
import os
import socket
import tempfile
import threading
from pathlib import Path
from typing import NamedTuple

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from medsae_ray.service.errors import Problem
from medsae_ray.service.listener import Listener
from medsae_ray.service.middleware import LIVE

STOP, DEAF = b"s", b"d"
"""The command's message to stop, and the replica's that it accepts no connection any more."""
STDERR = 2
"""The file descriptor of standard error, which is lent as well."""
FRONT_S = 2.0
"""The longest wait for the command's own answers, which take no time."""


class State(NamedTuple):
    """Why the command answers itself."""

    code: str
    message: str


STARTING = State("starting", "the service is starting")
LOST = State("service_lost", "the service was lost and is being started again")
STOPPING = State("stopping", "the service is stopping")


class Door:
    """The socket, lent and answered at by a thread for the length of the `with` block."""

    def __init__(self, listening: socket.socket, retry_s: int) -> None:
        self.listening, self.retry_s, self.state = listening, retry_s, STARTING
        self._folder = tempfile.TemporaryDirectory(prefix="medsae-door-")
        self.path = str(Path(self._folder.name) / "door")
        """The address at which the replica asks for the socket."""
        self._asked = socket.socket(socket.AF_UNIX)
        self._asked.bind(self.path)
        self._asked.listen()
        self._replica: socket.socket | None = None
        self._back = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Door":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Listen no longer. A replica that is still there stops as well."""
        if self._asked.fileno() < 0:
            return
        for one in (self._asked, self._replica):
            with contextlib.suppress(OSError):
                if one is not None:
                    one.shutdown(socket.SHUT_RDWR)  # wakes the thread
        self._thread.join()
        self._asked.close()
        self.listening.close()
        self._folder.cleanup()

    def drain(self, patience_s: float) -> None:
        """Have the replica finish what it has begun, while new requests are told that the service stops. Returns when
        it has, or after `patience_s`."""
        self.state, replica = STOPPING, self._replica
        if replica is None:
            return
        with contextlib.suppress(OSError):  # it is gone
            replica.sendall(STOP)
            self._back.wait(patience_s)
            replica.settimeout(patience_s)
            replica.recv(1)

    def _watch(self) -> None:
        """Answer until a replica asks, lend it the socket, and answer again when it is back."""
        while True:
            front = Listener(self._answer, self.listening, FRONT_S)
            try:
                replica, _ = self._asked.accept()
            except OSError:
                return
            finally:
                front.close()
            self._lend(replica)

    def _lend(self, replica: socket.socket) -> None:
        self._back.clear()
        self._replica = replica
        said = b""
        with contextlib.suppress(OSError):
            socket.send_fds(replica, [b"."], [self.listening.fileno(), STDERR])
            said = replica.recv(1)
        if self.state != STOPPING:
            self.state = LOST
        if said != DEAF:
            self._replica = None
            replica.close()
        self._back.set()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {"Cache-Control": "no-store", "Connection": "close"}
        live = scope["path"] == LIVE and self.state != STOPPING
        refusal = Problem(503, *self.state, retry_s=self.retry_s).response()
        response = JSONResponse({"live": True}) if live else refusal
        response.headers.update(headers)
        await response(scope, receive, send)


class Borrowed:
    """The replica's side: `app` at the socket that is lent at `path`, until the command ends or says so."""

    def __init__(self, path: str, app: ASGIApp, patience_s: float) -> None:
        self._command = socket.socket(socket.AF_UNIX)
        self._command.connect(path)
        _, (number, stderr), _, _ = socket.recv_fds(self._command, 1, 2)
        self.stderr = os.fdopen(stderr, "w", buffering=1)
        """The command's standard error, where an operator looks for the log."""
        with socket.socket(fileno=number) as listening:
            self._listener = Listener(app, listening, patience_s)
        self.stops = False
        threading.Thread(target=self._follow, daemon=True).start()

    @property
    def runs(self) -> bool:
        """True while it answers, or stops because it was told to."""
        return self._listener.runs or self.stops

    def _follow(self) -> None:
        with contextlib.suppress(OSError):
            self._command.recv(1)
        self.stops = True
        self._listener.close()
        with contextlib.suppress(OSError):
            self._command.sendall(DEAF)
        self._listener.join()
        self._command.close()
