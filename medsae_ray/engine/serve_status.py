"""What every Ray Serve application here shares: how it is doing, the start and end of Serve, and silence meanwhile."""

import contextlib
import logging
import sys
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray import serve
from ray.exceptions import ActorDiedError, ActorUnavailableError, GetTimeoutError, RayActorError
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_get, _internal_kv_put
from ray.serve._private.constants import SERVE_NAMESPACE
from ray.serve._private.controller import SHUTDOWN_IN_PROGRESS_KEY
from ray.serve._private.storage.kv_store import RayInternalKVStore
from ray.serve.context import _disconnect, _get_global_client
from ray.serve.schema import APIType, ServeInstanceDetails

from medsae_ray.engine.leases import ABSENT, UNKNOWN, FoundApplication

STARTED = b"medsae-started-serve"
"""Key of the cluster's store under which stands which controller of Serve one of ours has started."""
END_S = 30.0


def details() -> ServeInstanceDetails | None:
    """What Serve says of itself, None if it does not run. ActorUnavailableError while its controller restarts.

    Ray remembers a controller for as long as the process lives; of one that is gone it is told here to forget it, so
    that a Serve that was started since is found.
    """
    for _ in range(2):
        try:
            client: Any = _get_global_client(raise_if_no_controller_running=False)
            return ServeInstanceDetails(**client.get_serve_details()) if client else None
        except ActorDiedError:
            _disconnect()
    return None


def found(application: str) -> FoundApplication:
    """An application's status, ABSENT if there is none."""
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
    """Status of an application, and what it and its deployments say."""
    return found(application)[:2]


def controller() -> Any:
    """Handle of the controller of the Serve that runs now; None if none does."""
    client: Any = _get_global_client() if details() else None
    return client and client._controller


def controller_id() -> str | None:
    """Return the id of the actor that controls Ray Serve on this cluster; None if Serve is not running."""
    handle = controller()
    return str(handle._actor_id.hex()) if handle else None


def start_serve(**options: Any) -> None:
    """Start Serve, unless it runs, and note that it is ours to end.

    A controller that is asked to end while it ends already may leave its note of that behind; the next one would read
    it and end at once.
    """
    before = controller_id()
    if before is None:
        RayInternalKVStore(f"ray-serve-{SERVE_NAMESPACE}").delete(SHUTDOWN_IN_PROGRESS_KEY)
    try:
        with quiet():
            serve.start(**options)
    finally:
        if before is None and (mine := controller_id()):
            _internal_kv_put(STARTED, mine.encode())


def end_serve() -> bool:
    """Shut Serve down if one of ours has started it and it has no application left; whether it was.

    The controller itself decides, so that no application can come between the look and the end.
    """
    handle = controller()
    if handle is None or (_internal_kv_get(STARTED) or b"").decode() != handle._actor_id.hex():
        return False
    if not ray.get(handle.__ray_call__.remote(_close_if_unused), timeout=END_S):
        return False
    _wait_for_end(handle)
    _disconnect()
    _internal_kv_del(STARTED)
    return True


def _wait_for_end(handle: Any) -> None:
    until = time.monotonic() + END_S
    with contextlib.suppress(RayActorError, GetTimeoutError):
        while (left := until - time.monotonic()) > 0:
            ray.get(handle.check_alive.remote(), timeout=left)
            time.sleep(0.1)


def _close_if_unused(controller: Any) -> bool:
    """Runs in the controller, between two of its own calls: from now on it takes no application, and it ends by itself.

    `graceful_shutdown` after it would come too late now and then: see `start_serve`.
    """
    if controller.application_state_manager.list_app_statuses():
        return False
    controller._shutting_down = True
    return True


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Serve greets at length; a failure to start is an exception all the same."""
    logger = logging.getLogger("ray.serve")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


class WithoutController:
    """Standard output without what Ray prints about Serve's controller, whose end it takes for an accident."""

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
    """Silence about a Serve that ends in the block."""
    with quiet(), contextlib.redirect_stdout(WithoutController(sys.stdout)):
        yield
