"""A driver's side of a lease: asked for, renewed by a thread as long as the driver lives, and given back."""

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
"""How long a keeper may take to start, or to come back."""


def tell(method: str, *arguments: Any, patience_s: float = PATIENCE_S) -> Any:
    """What the cluster's keeper answers. One that was lost comes back by itself, or another is started."""
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
        """Why the lease was taken back, if it was."""
        self._ended, self._telling = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def ask(self, meanwhile: Callable[[], None] = lambda: None) -> str:
        """What this process is to do, DEPLOY or use what is THERE. Waits while another is about to deploy, or something
        to end. The error if it is refused."""
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
        """What had to be deployed is, or failed to be: others need not wait for it any longer."""
        tell("deployed", self.lease.thing, self.lease.holder)

    def check(self) -> None:
        """The error if the lease is no longer there."""
        if self.lost or self._ended.is_set():
            raise self.error(f"{self.lease.thing}: {self.lost or 'its use has ended'}")

    def close(self, wait: bool) -> None:
        """Give the lease back; with `wait` until what nobody else holds has ended."""
        with self._telling:  # a lease that is renewed after its end would live on
            self._ended.set()
        if not (self._thread.ident and ray.is_initialized()):
            return
        # A keeper that is gone has ended all that it kept, or another will when the lease is over.
        with ending_quietly() if wait else contextlib.nullcontext():
            with contextlib.suppress(RayActorError, GetTimeoutError):
                ray.get(keeper().release.remote(self.lease.thing, self.lease.holder, wait), timeout=PATIENCE_S)
            if wait:
                time.sleep(POLL_S)
                with contextlib.suppress(RayActorError):
                    details()  # forgets a Serve that has ended

    def _renew(self) -> None:
        while not self._ended.wait(self.lease.lease_s / 6) and ray.is_initialized():
            # What goes wrong goes right in a moment; and the end of what was leased is noticed where it is used.
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
    """A lease on a thing for the length of the block, from its first `ask` on. With `wait` the block's end is also that
    of the thing, unless others hold it or it is kept for a while."""
    who = f"{what} (process {os.getpid()} on {ray.util.get_node_ip_address()})"
    lease = Lease(thing, uuid.uuid4().hex, who, LEASE_S, idle_s, alone, about or {})
    hold = Hold(lease, error)
    try:
        yield hold
    finally:
        hold.close(wait)
