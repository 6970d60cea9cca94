"""The actor that keeps a cluster's leases (leases.py) and ends things without a holder. One for each cluster, for all
runs.

It alone decides, so that two runs never start two engines, and never end one that another has just taken.
"""

import contextlib
import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import ray
from ray import serve

from medsae_ray.cluster.ray_private import HEAD, kv_get, kv_put
from medsae_ray.engine.leases import ABSENT, WAIT, Answer, FoundApplication, Lease, LeaseBook
from medsae_ray.engine.serve_status import end_serve, found, quiet

NAME, NAMESPACE = "medsae-keeper", "medsae"
OURS = b"medsae-deployed"
"""The key of the cluster's store with the things deployed for holders, which outlives the keeper."""
TICK_S = 0.5
FIRST_CALL_S = 60.0
"""The seconds within which a new keeper's first call arrives, on a node however busy."""

logger = logging.getLogger(__name__)


class Keeper:
    """The actor's body. Its calls come in threads; a thread of its own ends things."""

    def __init__(self) -> None:
        self.book = LeaseBook(time.monotonic, json.loads(kv_get(OURS) or b"{}"))
        self.lock, self.wake = threading.Lock(), threading.Event()
        self.calls, self.idle_from = 0, time.monotonic() + FIRST_CALL_S
        """The calls being answered, and the time from which an empty book ends the keeper."""
        self.closed = False
        """True if Serve, and then this actor, are about to end: callers ask again, perhaps the next keeper."""
        threading.Thread(target=self._watch, daemon=True).start()

    def ask(self, lease: Lease) -> Answer:
        """Take or renew a lease and return what its holder does now; WAIT while the keeper itself is ending."""
        with self._call(), self._looking_at(lease.thing) as seen:
            return Answer(WAIT) if self.closed else self.book.ask(lease, seen)

    def deployed(self, thing: str, holder: str) -> None:
        """Note that the deployment which `holder` was told to make has been made, or has failed."""
        with self._call(), self.lock:
            self.book.deployed(thing, holder)

    def renew(self, lease: Lease) -> str:
        """Renew a lease; return why its holder has to give the application up, or ""."""
        with self._call(), self.lock:
            return self.book.renew(lease)

    def release(self, thing: str, holder: str, wait: bool) -> None:
        """End a lease, and with `wait` return when the thing has ended too, if nobody else holds it."""
        with self._call(), self.lock:
            self.book.release(thing, holder)
        self.wake.set()
        while wait and self._ends(thing):
            time.sleep(TICK_S / 5)

    def _ends(self, thing: str) -> bool:
        """Return True if the thing, or Serve with all things, is about to end; the end of Serve is this actor's own."""
        with self.lock:
            return self.book.waits_for(thing) or self.book.empty()

    def stop(self, thing: str, force: bool) -> str:
        """End an application now; return why not, or "". With `force` its holders lose their leases."""
        with self._call(), self._looking_at(thing) as seen:
            why = self.book.stop(thing, seen, force)
        self.wake.set()
        return why

    def report(self, thing: str) -> dict[str, Any]:
        """Return the figures that `medsae engine status` shows."""
        with self._call():
            seen = found(thing)
        with self.lock:
            ours = self.book.is_ours(thing, seen)
            about = self.book.ours.get(thing, {}) if ours else {}
            return {"status": seen.status, "ours": ours, "about": about, **self.book.left(thing)}

    @contextlib.contextmanager
    def _call(self) -> Iterator[None]:
        """Keep the keeper from ending until a call is answered: asking Serve may take longer than a tick."""
        with self.lock:
            self.calls += 1
        try:
            yield
        finally:
            with self.lock:
                self.calls, self.idle_from = self.calls - 1, 0.0

    @contextlib.contextmanager
    def _looking_at(self, thing: str) -> Iterator[FoundApplication]:
        """Hold the lock, with a thing's status that is older than no deployment: Serve is asked without the lock, so
        somebody may have deployed the thing in the meantime."""
        while True:
            before, seen = self.book.changes, found(thing)
            with self._changing():
                if self.book.changes == before:
                    yield seen
                    return

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self.lock:
            before = json.dumps(self.book.ours)
            yield
            if (after := json.dumps(self.book.ours)) != before:
                kv_put(OURS, after.encode())

    def _watch(self) -> None:
        while True:
            self.wake.wait(TICK_S)
            self.wake.clear()
            try:
                self._tick()
            except Exception:  # the cluster's state may change during any call: look again
                logger.exception("the keeper goes on")

    def _tick(self) -> None:
        with self._changing():
            over = self.book.over()
        for thing in over:
            seen = found(thing)
            if self.book.is_ours(thing, seen) and seen.status != ABSENT:
                with quiet():
                    serve.delete(thing)
            with self._changing():
                self.book.gone(thing)
        with self.lock:
            self.closed = self.book.empty() and not self.calls and time.monotonic() >= self.idle_from
        if self.closed:
            end_serve()
            ray.kill(ray.get_runtime_context().current_actor)


def keeper() -> Any:
    """Return the cluster's keeper, started if there is none."""
    return (
        ray.remote(Keeper)
        .options(
            name=NAME,
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            resources={HEAD: 0.001},
            max_restarts=-1,
            max_concurrency=32,
        )
        .remote()
    )
