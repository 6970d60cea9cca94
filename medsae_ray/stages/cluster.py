"""The Ray cluster of a run: an existing one, or a local one that ends with the run."""

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from typing import Any

import ray

from medsae_ray import errors
from medsae_ray.config import How
from medsae_ray.errors import MedsaeError, RecipeError


@contextlib.contextmanager
def cluster(how: How) -> Iterator[None]:
    """Connect for the length of the block. A cluster that this process was connected to before is left as it was."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray Data warns from C++ about every restartable actor; what really fails is raised.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # "local" and not None, which would join whatever cluster somebody started on this machine.
    address = how.address or os.environ.get("RAY_ADDRESS") or "local"
    local: dict[str, Any] = {"num_cpus": how.cpus, "include_dashboard": False} if address == "local" else {}
    with _no_stderr():
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **local)
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Ray's C++ core greets on the file descriptor itself; a failure to start is an exception all the same."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def own_error(text: str) -> MedsaeError | None:
    """The error that our code raised on a worker. Ray keeps its type and text only in the traceback that it prints."""
    found = re.search(r"medsae_ray\.errors\.(\w+): (.+)", text)
    kind = getattr(errors, found[1], None) if found else None
    if found is None or kind is None:
        return None
    return MedsaeError(found[2]) if kind is errors.ImageError else kind(found[2])


def require(what: str, cpus: float, gpus: float) -> None:
    """Refuse a request that the cluster can never place, instead of waiting for ever."""
    have = ray.cluster_resources()
    for kind, wanted in (("CPU", cpus), ("GPU", gpus)):
        if wanted > have.get(kind, 0):
            raise RecipeError(
                f"how.{what} asks for {wanted:g} {kind}s, the Ray cluster has {have.get(kind, 0):g}; "
                f"lower it or use a larger cluster"
            )
