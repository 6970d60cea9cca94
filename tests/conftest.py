"""One Ray cluster for all tests that need one; the package's own `cluster` leaves an existing one alone.

What needs it is marked `ray`: `make test` has one process for that and one for the rest.
"""

import logging
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from medsae_ray.engine.client import ServeEngine


FIRST = ("runtime/test_shards.py", "service/test_deployment.py", "service/test_live.py")
"""The engine stays up once it is started: it holds a CPU, and Ray Serve keeps its address. These want neither taken."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")
    items.sort(key=lambda item: next((place for place, name in enumerate(FIRST) if name in str(item.path)), len(FIRST)))


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    import ray

    # One more than the engine of the naming tests and the rest need, wherever they run: it stays up once it is started.
    # Metrics come every second instead of every ten, for the test that waits for them.
    often = {"metrics_report_interval_ms": 1000}
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": logging.ERROR}
    ray.init(num_cpus=3, **quiet, _system_config=often)
    for name in ("ray", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    yield
    ray.shutdown()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        made = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        made = False
    if not made:
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture(scope="session")
def http_port(ray_cluster: None) -> Iterator[int]:
    """Ray Serve with its HTTP proxy at a free port: it cannot be had later, while an application runs."""
    from medsae_ray.service.command import http
    from medsae_ray.service.limits import RequestLimits

    port = free_port()
    with http("127.0.0.1", port, RequestLimits()):
        yield port


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="session")
def vlm_engine(http_port: int) -> "Iterator[ServeEngine]":
    """The small model on the session's cluster, as the packaged recipe starts it."""
    from medsae_ray.config import load_recipe
    from medsae_ray.engine.client import start_engine
    from medsae_ray.engine.session import settings_of

    with start_engine(replace(settings_of(load_recipe("phantom")), metrics=True)) as engine:
        yield engine
