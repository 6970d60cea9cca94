"""The count of processes that a piece of work has killed, which limits Ray's endless retries.

A dead process cannot report, so its work is noted outside of it first: in the key-value store of the cluster's control
service (GCS), which survives any worker, node or actor. A try whose node is gone was ended by the node and not by the
work, so it never counts, however often it happens.
"""

import contextlib
import logging
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol

import ray

from medsae_ray.cluster.ray_private import kv_delete, kv_keys, kv_put
from medsae_ray.core.artifacts.patience import heard_by
from medsae_ray.errors import ShardError

READING, COMPUTING, LOADING, TRAINING = "it was read", "it was computed", "the model was loaded", "it was trained"
"""The work that a process may die of. Computing goes on until the result is written or handed over."""
_CAUSES = {
    READING: "memory, or an image that crashes a decoder, is the usual cause",
    COMPUTING: "memory is the usual cause; smaller batches take less",
    LOADING: "memory is the usual cause; fewer models at once (actors) take less",
    TRAINING: "memory is the usual cause; how.train.memory_gb: 0 takes less",
}
_ROOT, _SAID, _WRITTEN = "medsae-tries", "medsae-said", "it was written"
_LISTEN_S = 5.0
"""The seconds between two reads of workers' texts."""
_log = logging.getLogger(__name__)
_ANSWERS_S = 2.0
"""The seconds within which the raylet of a running node accepts a connection."""


class TryBook(Protocol):
    """A place where tries are noted."""

    def put(self, key: str) -> None:
        """Note a key."""
        ...

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`."""
        ...

    def delete(self, prefix: str) -> None:
        """Remove the keys that begin with `prefix`."""
        ...


class ControlService:
    """The book of the cluster that this process is part of. Without an answer it counts nothing: work goes on while the
    control service restarts."""

    def put(self, key: str) -> None:
        """Note a key, or nothing if the control service does not answer."""
        with contextlib.suppress(Exception):
            kv_put(key, b"")

    def keys(self, prefix: str) -> list[str]:
        """Return the keys that begin with `prefix`; none if the control service does not answer."""
        with contextlib.suppress(Exception):
            return kv_keys(prefix)
        return []

    def delete(self, prefix: str) -> None:
        """Remove the keys that begin with `prefix`, or nothing if the control service does not answer."""
        with contextlib.suppress(Exception):
            kv_delete(prefix, as_prefix=True)


def standing(nodes: set[str]) -> set[str]:
    """Return the running ones of the nodes (Ray's ids). The control service notices a lost machine after 15 s, so each
    node is asked itself."""
    with contextlib.suppress(Exception):
        known = {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}
        return {node for node in nodes & known.keys() if _answers(known[node])}
    return set()


def _answers(node: dict[str, object]) -> bool:
    try:
        address = str(node["NodeManagerAddress"]), int(str(node["NodeManagerPort"]))
        with socket.create_connection(address, timeout=_ANSWERS_S):
            return True
    except OSError:
        return False


def this_node() -> str:
    """Return Ray's id of the node that this process is on."""
    return str(ray.get_runtime_context().get_node_id())


@dataclass(frozen=True)
class Tries:
    """The tries of one stage's pieces of work. Small and picklable: it travels to every worker."""

    allowed: int
    """The number of retries of a piece of work after its process died on a node that stayed up."""
    name: str = field(default_factory=lambda: uuid.uuid4().hex)
    book: TryBook = field(default_factory=ControlService)
    standing: Callable[[set[str]], set[str]] = standing
    here: Callable[[], str] = this_node

    def begin(self, piece: str, doing: str) -> int:
        """Note that `piece` is begun in this process; return the number of its earlier tries that never ended.

        Each kind of work, `doing`, has a budget of its own. Raises ShardError if processes died of it on running nodes
        more often than allowed.
        """
        prefix = self._prefix(piece, doing)
        earlier = self.book.keys(prefix)
        if len(earlier) > self.allowed and (died := self.died(earlier)) > self.allowed:
            raise ShardError(
                f"{piece}: its worker died {died} times (allowed retries: {self.allowed}) while {doing}, on nodes that "
                f"are still up: {_CAUSES[doing]}"
            )
        self.note(piece, doing)
        return len(earlier)

    def note(self, piece: str, doing: str) -> None:
        """Note that `piece` is begun in this process, whatever came before, and pass this process's retries of a store
        on to the driver."""
        heard_by(self._say)
        self.book.put(f"{self._prefix(piece, doing)}{self.here()}/{uuid.uuid4().hex}")

    def noted(self) -> list[str]:
        """Return the keys of all work that was begun and did not end."""
        return self.book.keys(f"{_ROOT}/{self.name}/")

    def end(self, piece: str, doing: str) -> None:
        """Note that `piece` has ended."""
        self.book.delete(self._prefix(piece, doing))

    def written(self, piece: str) -> None:
        """Note that the result of `piece` is stored, even if the receipt is lost with its node."""
        self.book.put(self._prefix(piece, _WRITTEN))

    def was_written(self, piece: str) -> bool:
        """Return whether `written` was called for this piece, by any process."""
        return bool(self.book.keys(self._prefix(piece, _WRITTEN)))

    def died(self, tries: Iterable[str]) -> int:
        """Count the tries that were on nodes that are up."""
        nodes = [key.split("/")[-2] for key in tries]
        up = self.standing(set(nodes))
        return sum(node in up for node in nodes)

    @contextlib.contextmanager
    def kept(self) -> Iterator["Tries"]:
        """Log workers' texts in the driver too, and forget all tries at the end of the block."""
        over = threading.Event()
        thread = threading.Thread(target=self._listen, args=(over,), name="workers-say", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            over.set()
            thread.join()
            self.book.delete(f"{_ROOT}/{self.name}/")
            self.book.delete(f"{_SAID}/{self.name}/")

    def _say(self, text: str) -> None:
        self.book.put(f"{_SAID}/{self.name}/{text}")

    def _listen(self, over: threading.Event) -> None:
        """Log each text once, however many workers send it."""
        heard: set[str] = set()
        while not over.wait(_LISTEN_S):
            said = {key.split("/", 2)[2] for key in self.book.keys(f"{_SAID}/{self.name}/")}
            for text in sorted(said - heard):
                _log.warning(text)
            heard |= said

    def _prefix(self, piece: str, doing: str) -> str:
        return f"{_ROOT}/{self.name}/{doing}/{piece}/"
