"""The Ray cluster of a run: an existing one, or a local one that ends with the run."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from medsae_ray import errors
from medsae_ray.cluster.ray_messages import shorten
from medsae_ray.cluster.survivors import none_survives
from medsae_ray.config import How
from medsae_ray.errors import MedsaeError, ShardError


def cluster_address(how: How) -> str | None:
    """Return the address of the cluster to join; None if the run starts a local one that ends with it."""
    address = how.address or os.environ.get("RAY_ADDRESS") or "local"
    return None if address == "local" else address


@contextlib.contextmanager
def cluster(how: How) -> Iterator[None]:
    """Connect for the length of the block. An earlier connection of this process stays as it is."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray Data warns from C++ about every restartable actor; what really fails is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # "local" and not None, which would join whatever cluster somebody started on this machine.
    address = cluster_address(how) or "local"
    local: dict[str, Any] = {"num_cpus": how.cpus, "include_dashboard": False} if address == "local" else {}
    shorten()
    with _no_stderr():
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with none_survives() if address == "local" else contextlib.nullcontext():
        try:
            yield
        finally:
            ray.shutdown()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Silence the greeting of Ray's C++ core on the file descriptor; a failure to start is still an exception."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


_OURS = re.compile(r"medsae_ray\.errors\.(\w+): (.+?)(?=\n\n|\n\S*(?:ray::|Traceback)|\Z)", re.DOTALL)


def own_error(text: str) -> MedsaeError | None:
    """Return the error that our code raised on a worker, the last of a chain.

    Ray keeps its type and text only in the traceback that it prints.
    """
    found = [(getattr(errors, kind, None), said.strip()) for kind, said in _OURS.findall(text)]
    kind, said = next(((k, s) for k, s in reversed(found) if k), (None, ""))
    if kind is None:
        return None
    return MedsaeError(said) if kind is errors.ImageError else kind(said)


@contextlib.contextmanager
def told_plainly(what: str) -> Iterator[None]:
    """Raise a failure on the cluster as one of our errors: the worker's own, or the loss of a worker.

    A fault of the program keeps its traceback.
    """
    try:
        yield
    except RayError as error:
        if ours := own_error(str(error)):
            raise ours from None
        if isinstance(error, RayTaskError):
            raise
        said = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ShardError(f"{what}: the cluster lost the computation ({type(error).__name__}: {said})") from error
