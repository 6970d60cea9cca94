"""The check, before the first write, that a run's root is one and the same folder on every node of the cluster."""

import contextlib
import os
import re
import time
import uuid
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from medsae_ray.core.artifacts.store import Store
from medsae_ray.errors import RecipeError

_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable that Ray sets in the entry point of a submitted job."""
_PACKAGE = re.compile(r"/working_dir_files/_ray_pkg_[^/]+(/|$)")
_INSTEAD = "give a folder on a disk that every node mounts, or an object store (s3://BUCKET/RUN)"
_ANSWER_S, _SHOWN_S = 60.0, 10.0
"""The seconds for a node to answer, and for a network disk to show another machine's writes."""


def check_place(root: str) -> None:
    """Raise RecipeError for a root in the working directory of a submitted job, which Ray unpacks and deletes."""
    local = "://" not in root and not root.lower().startswith("file:/")
    if local and _JOB in os.environ and not os.path.isabs(os.path.expanduser(root)):
        raise RecipeError(
            f"--root {root} is a relative path, which in a submitted job starts in the copy of the working directory "
            f"that Ray unpacked and will delete: {_INSTEAD}"
        )
    if _PACKAGE.search(place := Store(root).uri):
        raise RecipeError(f"--root {place} is in a working directory that Ray unpacked and will delete: {_INSTEAD}")


def check_seen(root: Store, seen: set[str]) -> None:
    """Raise RecipeError if `root` is a folder that another node does not see, or cannot write to.

    `seen` are the nodes checked before; those that answer now are added. A node lost meanwhile is no problem.
    """
    if not root.is_local:
        return
    here = ray.get_runtime_context().get_node_id()
    others = {n["NodeID"]: n for n in ray.nodes() if n["Alive"] and n["NodeID"] not in seen | {here}}
    if not others:
        return
    token = f".medsae-probe-{uuid.uuid4().hex}"
    root.write(token, token.encode())
    asked = {_look.options(scheduling_strategy=_on(node)).remote(root.path(""), token, node): node for node in others}
    try:
        answered, _ = ray.wait(list(asked), num_returns=len(asked), timeout=_ANSWER_S)
        for one in answered:
            node = others[asked[one]]
            with contextlib.suppress(RayError):  # lost since
                problem = ray.get(one) or _unseen(root, f"{token}-{asked[one]}")
                if problem:
                    address = node["NodeManagerAddress"]
                    raise RecipeError(
                        f"root {root.uri}: node {address} of the cluster {problem}. Every node writes its parts "
                        f"there: {_INSTEAD}"
                    )
                seen.add(asked[one])
    finally:
        for name in (token, *(f"{token}-{node}" for node in others)):
            with contextlib.suppress(OSError):
                os.unlink(root.path(name))


def _on(node: str) -> NodeAffinitySchedulingStrategy:
    return NodeAffinitySchedulingStrategy(node, soft=False)


@ray.remote(num_cpus=0, max_retries=0)
def _look(folder: str, token: str, node: str) -> str:
    """Check the folder on another node, and return its problem there, or ""."""
    file = Path(folder, token)
    until = time.monotonic() + _SHOWN_S
    while not file.exists():
        if time.monotonic() > until:
            return "does not see this folder as the machine of the driver does"
        time.sleep(0.5)
    try:
        Path(folder, f"{token}-{node}").write_text(token)
    except OSError as error:
        return f"may not write to it ({error.strerror})"
    return ""


def _unseen(root: Store, name: str) -> str:
    until = time.monotonic() + _SHOWN_S
    while not root.exists(name):
        if time.monotonic() > until:
            return "writes to this folder, but the machine of the driver does not see it"
        time.sleep(0.5)
    return ""
