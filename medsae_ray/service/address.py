"""Where the service listens and whom it answers: checked in the first seconds, before anything is loaded."""

import contextlib
import ipaddress
import os
import socket
from typing import NamedTuple

from medsae_ray.errors import MedsaeError, RecipeError

SHORTEST_TOKEN = 16
BACKLOG = 2048
"""The most connections that wait to be accepted."""


class Address(NamedTuple):
    """The socket that listens, and the token that callers have to send, if any."""

    host: str
    port: int
    listening: socket.socket
    token: str | None

    @property
    def url(self) -> str:
        """The address as a browser takes it."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def address_of(host: str, port: int, token_variable: str) -> Address:
    """Listen at an address. RecipeError as `token_of`, MedsaeError if nothing can listen there."""
    token = token_of(token_variable, needed=not is_loopback(host))
    listening = listen(host, port)
    return Address(host, int(listening.getsockname()[1]), listening, token)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket. MedsaeError, with the cause, if nothing can listen there."""
    if not 0 <= port < 2**16:
        raise MedsaeError(f"--port is {port}: a port is a number from 0 to 65535")
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.ExitStack() as failed:
            found = failed.enter_context(socket.socket(family))
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(place)
            found.listen(BACKLOG)
            failed.pop_all()
            return found
    except OSError as error:
        raise MedsaeError(f"nothing can listen at {host}:{port}: {error.strerror or error}") from error


def token_of(variable: str, needed: bool) -> str | None:
    """Return the token in an environment variable. RecipeError if it is needed and missing, or easily guessed."""
    token = os.environ.get(variable)
    if not token:
        if needed:
            raise RecipeError(
                f"the environment variable {variable} is not set: whoever reaches an address beyond this machine "
                f"could read the run. Set it to a token of {SHORTEST_TOKEN} characters or more, or use --host 127.0.0.1"
            )
        return None
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise RecipeError(
            f"the token in {variable} has to be at least {SHORTEST_TOKEN} printable ASCII characters without spaces"
        )
    return token


def is_loopback(host: str) -> bool:
    """Return True if an address is reached from its own machine only. Names other than localhost count as False."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"
