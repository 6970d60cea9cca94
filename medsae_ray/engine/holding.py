"""A driver's side of a lease: taken, renewed by a thread as long as the driver lives, and given back."""

import contextlib
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError

from medsae_ray.engine.keeper import keeper
from medsae_ray.engine.leases import LEASE_S, REFUSED, WAIT, Lease
from medsae_ray.engine.serve_status import details, ending_quietly
from medsae_ray.errors import MedsaeError

POLL_S = 0.5
PATIENCE_S = 120.0
"""The seconds that a keeper may take to start, or to come back."""


def tell(method: str, *arguments: Any, patience_s: float = PATIENCE_S) -> Any:
    """Return the answer of the cluster's keeper. A lost one comes back by itself, or another is started."""
    until = time.monotonic() + patience_s
    while True:
        try:
            return ray.get(getattr(keeper(), method).remote(*arguments), timeout=patience_s)
        except (RayActorError, GetTimeoutError) as error:
            if time.monotonic() > until:
                raise MedsaeError(
                    f"who uses the cluster's engine cannot be asked ({type(error).__name__}): is Ray's head node well?"
                ) from None
            time.sleep(POLL_S)


class Hold:
    """A lease that this process holds. Threads may share it."""

    def __init__(self, lease: Lease, error: type[MedsaeError] = MedsaeError) -> None:
        self.lease, self.error = lease, error
        self.lost = ""
        """The reason why the lease was taken back, or ""."""
        self._ended, self._telling = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def ask(self, meanwhile: Callable[[], None] = lambda: None) -> str:
        """Ask for the lease: DEPLOY, or THERE to use the existing thing. Waits while another holder is about to
        deploy, or a thing to end. Raises the error if it is refused."""
        while True:
            with self._telling:
                self.check()
                answer = tell("ask", self.lease)
                if not self._thread.ident:
                    self._thread.start()
            if answer.do == REFUSED:
                raise self.error(answer.why)
            if answer.do != WAIT:
                return str(answer.do)
            meanwhile()
            time.sleep(POLL_S)

    def deployed(self) -> None:
        """Report that the deployment has been made, or has failed: others need not wait for it any longer."""
        tell("deployed", self.lease.thing, self.lease.holder)

    def check(self) -> None:
        """Raise the error if the lease is lost or has ended."""
        if self.lost or self._ended.is_set():
            raise self.error(f"{self.lease.thing}: {self.lost or 'its use has ended'}")

    def close(self, wait: bool) -> None:
        """Give the lease back; with `wait`, return after the end of anything that has no other holder."""
        with self._telling:  # a lease renewed after its end would never end
            self._ended.set()
        if not (self._thread.ident and ray.is_initialized()):
            return
        # A lost keeper has ended all that it kept, or another one will after the lease.
        with ending_quietly() if wait else contextlib.nullcontext():
            with contextlib.suppress(RayActorError, GetTimeoutError):
                ray.get(keeper().release.remote(self.lease.thing, self.lease.holder, wait), timeout=PATIENCE_S)
            if wait:
                time.sleep(POLL_S)
                with contextlib.suppress(RayActorError):
                    details()  # forgets a Serve that has ended

    def _renew(self) -> None:
        while not self._ended.wait(self.lease.lease_s / 6) and ray.is_initialized():
            # Failures are temporary, and the end of the leased thing is noticed by its users.
            with contextlib.suppress(Exception), self._telling:
                if not self._ended.is_set():
                    self.lost = ray.get(keeper().renew.remote(self.lease), timeout=LEASE_S)
            if self.lost:
                return


@contextlib.contextmanager
def held(
    thing: str,
    what: str,
    *,
    wait: bool,
    idle_s: float = 0.0,
    alone: bool = False,
    about: dict[str, Any] | None = None,
    error: type[MedsaeError] = MedsaeError,
) -> Iterator[Hold]:
    """Hold a lease on a thing for the length of the block, from its first `ask` on. With `wait` the thing ends with
    the block, unless others hold it or it is kept for a while."""
    who = f"{what} (process {os.getpid()} on {ray.util.get_node_ip_address()})"
    lease = Lease(thing, uuid.uuid4().hex, who, LEASE_S, idle_s, alone, about or {})
    hold = Hold(lease, error)
    try:
        yield hold
    finally:
        hold.close(wait)
