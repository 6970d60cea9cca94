"""The shared handling of Ray Serve applications: their status, the start and end of Serve, and silence meanwhile."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError
from ray.serve.schema import APIType, ServeInstanceDetails

from medsae_ray.cluster import ray_private
from medsae_ray.engine.leases import ABSENT, RUNNING, UNKNOWN, FoundApplication

STARTED = b"medsae-started-serve"
"""The key of the cluster's store with the controller of Serve that one of ours has started."""
END_S = 30.0


def details() -> ServeInstanceDetails | None:
    """Return Serve's own status, None if it does not run. ActorUnavailableError while its controller restarts."""
    for _ in range(2):
        try:
            known = ray_private.serve_details()
            return ServeInstanceDetails(**known) if known else None
        except ActorDiedError:
            ray_private.forget_serve()
    return None


def found(application: str) -> FoundApplication:
    """Return an application's status, ABSENT if there is none."""
    try:
        known = details()
    except ActorUnavailableError:
        return FoundApplication(UNKNOWN, "Serve's controller does not answer")
    one = known and known.applications.get(application)
    if not one:
        return FoundApplication(ABSENT, "it was stopped")
    said = [one.message, *(deployment.message for deployment in one.deployments.values())]
    return FoundApplication(
        one.status.value, "\n".join(text for text in said if text), one.source == APIType.DECLARATIVE
    )


def status_of(application: str) -> tuple[str, str]:
    """Return the status of an application, and the messages of it and its deployments."""
    return found(application)[:2]


def starting(application: str, pause_s: float) -> Iterator[tuple[str, str, float]]:
    """Yield status and message of a starting application, and the seconds so far, until it runs."""
    start = time.monotonic()
    while True:
        status, message = status_of(application)
        yield status, message, time.monotonic() - start
        if status == RUNNING:
            return
        time.sleep(pause_s)


def controller_id() -> str | None:
    """Return the id of the actor that controls Ray Serve on this cluster; None if Serve is not running."""
    handle = _controller()
    return handle and ray_private.actor_id(handle)


def _controller() -> Any:
    return ray_private.serve_controller() if details() else None


def start_serve(**options: Any) -> None:
    """Start Serve, unless it runs, and note that it is ours to end."""
    before = controller_id()
    if before is None:
        ray_private.clear_end_of_serve()
    try:
        with quiet():
            serve.start(**options)
    finally:
        if before is None and (mine := controller_id()):
            ray_private.kv_put(STARTED, mine.encode())


def end_serve() -> bool:
    """Shut Serve down if one of ours has started it and it has no application left; return True if it was."""
    handle = _controller()
    if handle is None or (ray_private.kv_get(STARTED) or b"").decode() != ray_private.actor_id(handle):
        return False
    if not ray_private.end_unused_serve(handle, END_S):
        return False
    ray_private.forget_serve()
    ray_private.kv_delete(STARTED)
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence Serve's greetings; a failed start is still an exception."""
    logger = logging.getLogger("ray.serve")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class WithoutController:
    """Standard output without Ray's messages about the end of Serve's controller, which it takes for an accident."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.dropped = stream, False

    def write(self, text: str) -> int:
        """Write text unless it is about the controller, and return its length; the newline after such a text is dropped
        too."""
        drop = "ServeController." in text or (self.dropped and text == "\n")
        self.dropped = drop and text != "\n"
        return len(text) if drop else self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def ending_quietly() -> Iterator[None]:
    """Silence messages about a Serve that ends in the block."""
    with quiet(), contextlib.redirect_stdout(WithoutController(sys.stdout)):
        yield
