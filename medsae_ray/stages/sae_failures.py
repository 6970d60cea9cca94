"""The kinds of a failed training: an error of ours, the end of a node, or a failure that allows another attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray.train import UserCallback

from medsae_ray.cluster.joining import own_error
from medsae_ray.errors import MedsaeError
from medsae_ray.runtime.tries import TRAINING, Tries


@dataclass(frozen=True)
class Group:
    """The nodes of a training's workers."""

    tries: Tries

    def join(self, rank: int) -> None:
        """Record that this process is worker `rank`, on this node."""
        self.tries.note(f"rank {rank}", TRAINING)

    def joined(self) -> set[str]:
        """Return a key of every worker that was ever started."""
        return set(self.tries.noted())

    def lost(self, workers: set[str]) -> bool:
        """Return True if one of the workers was on a node that is gone."""
        return self.tries.died(workers) < len(workers)


class Judge(UserCallback):
    """The decision after a failure on another attempt; Ray Train itself would retry for ever.

    An error of our own would recur, after minutes. The end of a node never counts. Any other failure is tried again
    `retries` times.
    """

    def __init__(self, group: Group, retries: int) -> None:
        self.group, self.retries = group, retries
        self.judged: set[str] = set()
        self.failures = 0

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        """Decide on Ray Train's controller, where an exception raised here is not retried. The call repeats while a
        node is being drained: each group of workers is judged once."""
        if ours := own_of(worker_exceptions):
            raise ours
        workers = self.group.joined() - self.judged
        self.judged |= workers
        if not workers or self.group.lost(workers):
            return
        self.failures += 1
        if self.failures > self.retries:
            said = next((str(error).strip() for error in worker_exceptions.values()), "")
            raise MedsaeError(f"training failed after {self.retries} retries, on nodes that are still up: {said}")


def own_of(exceptions: Mapping[int, Exception]) -> MedsaeError | None:
    """Return our own error among those of the workers, which are bare or in a wrapper that quotes them."""
    for error in exceptions.values():
        if ours := error if isinstance(error, MedsaeError) else own_error(str(error)):
            return ours
    return None
