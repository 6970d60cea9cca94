"""The keeper on a real cluster and a real Serve, with applications that start in a second."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import ray
from ray import serve
from ray.serve._private.constants import SERVE_NAMESPACE
from ray.serve._private.controller import SHUTDOWN_IN_PROGRESS_KEY
from ray.serve._private.storage.kv_store import RayInternalKVStore

from medsae_ray.cluster.ray_private import deploy
from medsae_ray.engine.holding import Hold, held, tell
from medsae_ray.engine.keeper import keeper
from medsae_ray.engine.leases import ABSENT, DEPLOY, RUNNING, FoundApplication
from medsae_ray.engine.serve_status import controller_id, details, found, start_serve

ROOT = Path(__file__).resolve().parents[2]
THING, FOREIGN = "test-thing", "somebody-elses-app"

pytestmark = pytest.mark.ray


@serve.deployment(num_replicas=1, ray_actor_options={"num_cpus": 0})
class Hello:
    async def __call__(self) -> str:
        return "hello"


def bring(hold: Hold, name: str = THING) -> str:
    """What the keeper said, and the application runs."""
    said = hold.ask()
    if said == DEPLOY:
        start_serve(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
        deploy(Hello.bind(), name, route_prefix=None)
        hold.deployed()
    assert becomes(name, RUNNING, 60)
    return said


def becomes(name: str, status: str, seconds: float) -> bool:
    until = time.monotonic() + seconds
    while found(name).status != status:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture
def foreign(ray_cluster: None) -> Iterator[str]:
    """An application of somebody who knows nothing of us, on the Serve that one of ours may have started."""
    start_serve(proxy_location="Disabled", logging_config={"log_level": "ERROR"})
    deploy(Hello.bind(), FOREIGN, route_prefix=None)
    assert becomes(FOREIGN, RUNNING, 60)
    yield FOREIGN
    serve.delete(FOREIGN)


def test_two_share_one_thing_the_last_ends_it_and_what_is_others_stays(foreign: str) -> None:
    with held(THING, "first", wait=True) as first:
        with held(THING, "second", wait=True) as second, ThreadPoolExecutor(2) as both:
            said = sorted(both.map(bring, (first, second)))
            assert said[0] == DEPLOY and said[1] != DEPLOY
        assert found(THING).status == RUNNING
        assert [who.split(" ")[0] for who, _ in tell("report", THING)["leases"]] == ["first"]
    assert found(THING).status == ABSENT
    assert found(foreign) == FoundApplication(RUNNING, found(foreign).message)


def test_a_killed_holder_is_missed_and_its_thing_ends(foreign: str) -> None:
    lines = (
        "import time, ray",
        f"ray.init(address={ray.get_runtime_context().gcs_address!r}, log_to_driver=False)",
        "import medsae_ray.engine.holding as holding",
        "from tests.engine.test_keeper import THING, bring",
        "holding.LEASE_S = 4.0",
        "with holding.held(THING, 'killed', wait=False, idle_s=1.0) as hold:",
        "    bring(hold)",
        "    print('runs', flush=True)",
        "    time.sleep(600)",
    )
    command = [sys.executable, "-c", "\n".join(lines)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stdout is not None and any(line == "runs\n" for line in process.stdout)
            time.sleep(6)  # longer than a lease: it is renewed
            assert found(THING).status == RUNNING
        finally:
            process.send_signal(signal.SIGKILL)
    assert becomes(THING, ABSENT, 20)
    assert found(foreign).status == RUNNING


def test_a_keeper_that_is_lost_ends_nothing_that_is_held(foreign: str) -> None:
    with held(THING, "first", wait=True, idle_s=0.0) as first:
        bring(first)
        ray.kill(keeper(), no_restart=False)
        until = time.monotonic() + 60
        while not (report := tell("report", THING))["leases"]:  # until one renewal has reached the new keeper
            assert report["status"] == RUNNING and time.monotonic() < until
            time.sleep(0.5)
        time.sleep(2)
        assert report["ours"] and found(THING).status == RUNNING
    assert found(THING).status == ABSENT and found(foreign).status == RUNNING


def test_serve_ends_with_its_last_application_if_one_of_ours_started_it(ray_cluster: None) -> None:
    known = details()
    if known and (known.applications or known.proxies):
        pytest.skip("Serve runs for other tests of this session")
    for _ in range(2):
        with held(THING, "first", wait=True) as first:
            bring(first)
        assert controller_id() is None
        noted = RayInternalKVStore(f"ray-serve-{SERVE_NAMESPACE}")
        assert noted.get(SHUTDOWN_IN_PROGRESS_KEY) is None
        noted.put(SHUTDOWN_IN_PROGRESS_KEY, b"1")  # as of a controller that was told twice
    noted.delete(SHUTDOWN_IN_PROGRESS_KEY)
