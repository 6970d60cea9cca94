"""Four nodes on a local S3 server, and everything on them is lost in turn. `make test-cluster` runs it: minutes."""

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from tests.on_nodes.nodes import cluster, free_ports, wait_for
from tests.on_nodes.ward import BUCKET, Bucket, Ward, upload_to, write_recipe
from tests.support.outage import settings, store

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ward]:
    with store(BUCKET, versions=True) as door, cluster(settings(door), 3) as found:
        print(f"nodes have {'disks of their own' if found.own_disks else 'one disk: no mount namespaces here'}")
        yield Ward(found, Bucket(door), door, upload_to(tmp_path_factory.mktemp("upload")))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recipe") / "small.yaml"
    write_recipe(path, patients=200, epochs=120)
    return path


@pytest.fixture(scope="module")
def undisturbed(ward: Ward, recipe: Path) -> dict[str, dict[str, str]]:
    ward.submit(recipe, "clean").succeeds()
    ward.say("the undisturbed run ended")
    assert not ward.bucket.written_twice("clean")
    return ward.bucket.checksums("clean")


def test_a_node_is_lost_in_every_stage(ward: Ward, recipe: Path, undisturbed: dict[str, dict[str, str]]) -> None:
    job, run, bucket = ward.submit(recipe, "nodes"), "nodes", ward.bucket
    ward.lose_a_node(job, "MapWorker", lambda: bucket.parts(run, "images") >= 2, "images")
    ward.lose_a_node(job, "MapWorker", lambda: bucket.parts(run, "embeddings") >= 2, "embeddings")
    ward.lose_a_node(job, "RayTrainWorker", lambda: bucket.has(run, "sae", "/state-"), "sae, after a checkpoint")
    ward.lose_a_node(job, "_group", lambda: bucket.has(run, "activations", "record.json"), "features")
    ward.lose_a_node(job, "_compute", lambda: bucket.has(run, "features", "record.json"), "recovery")
    job.succeeds()
    ward.say("the run ended")
    assert bucket.checksums(run) == undisturbed and not bucket.written_twice(run)


def test_five_nodes_are_lost_in_one_stage(ward: Ward, tmp_path: Path) -> None:
    """Each has the stage's one actor, which the head is too small for: without its node nothing goes on."""
    path, run, bucket = tmp_path / "one.yaml", "five", ward.bucket
    write_recipe(path, patients=200, epochs=120)
    data = yaml.safe_load(path.read_text())
    data["how"]["embed"] |= {"actors": 1, "cpus": 2}
    path.write_text(yaml.safe_dump(data))
    data["how"]["engine"] = "loop"
    alone = run_stage(parse_recipe(data), str(tmp_path / "alone"), "embeddings").record
    job = ward.submit(path, run, "-m", "medsae_ray.cli", "stage", "embeddings")
    for made in range(1, 6):
        name = ward.lose_a_node(job, "MapWorker", lambda: "· embeddings" in job.log(), f"embeddings, {made} of 5")
        wait_for(lambda name=name: job.over() or ward.cluster.started(name), "the node's return")
    assert not bucket.has(run, "embeddings", "record.json"), "the nodes were lost after the stage"
    job.succeeds()
    ward.say("the stage ended")
    assert bucket.checksums(run)[alone.name] == {f.name: f.sha256 for f in alone.files}
    assert not bucket.written_twice(run)


def test_a_worker_and_the_driver_are_killed(ward: Ward, recipe: Path, undisturbed: dict[str, dict[str, str]]) -> None:
    job, run, bucket = ward.submit(recipe, "driver"), "driver", ward.bucket
    wait_for(lambda: bucket.parts(run, "images") >= 2 and ward.cluster.with_process("MapWorker"), "a worker")
    next(iter(ward.cluster.with_process("MapWorker").values())).send_signal(signal.SIGKILL)
    ward.say("a worker killed in images")
    wait_for(lambda: bucket.parts(run, "embeddings") >= 2, "embeddings")
    job.driver().send_signal(signal.SIGKILL)
    ward.say("the driver killed in embeddings")
    wait_for(job.over, "the end of the first job")
    time.sleep(5)  # a worker may still be writing
    before = bucket.versions(run)
    ward.submit(recipe, run).succeeds()
    assert bucket.checksums(run) == undisturbed and not bucket.written_twice(run)
    assert before.keys() - {"status.json"} <= bucket.versions(run).keys()


def test_the_store_is_away_for_a_minute_in_every_stage(
    ward: Ward, recipe: Path, undisturbed: dict[str, dict[str, str]]
) -> None:
    job, run, bucket = ward.submit(recipe, "away"), "away", ward.bucket
    moments = {
        "images": lambda: bucket.parts(run, "images") >= 2,
        "embeddings": lambda: bucket.parts(run, "embeddings") >= 2,
        "sae": lambda: bucket.has(run, "sae", "/state-"),
        "features": lambda: bucket.has(run, "activations", "record.json"),
    }
    cuts = []
    for stage, moment in moments.items():
        wait_for(lambda m=moment: job.over() or m(), stage)
        assert not job.over(), job.log()[-4000:]
        cuts.append(time.time())
        ward.door.away(60).join()
        ward.say(f"the store was away for 60 s in {stage}")
    log = job.succeeds()
    ward.say("the run ended")
    assert bucket.checksums(run) == undisturbed and not bucket.written_twice(run, cuts)
    assert "and is retried for at most" in log


def test_a_node_is_lost_while_it_serves(
    ward: Ward, recipe: Path, undisturbed: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    """Another takes its place, at the same address, and shows the same features."""
    data = yaml.safe_load(recipe.read_text())
    data["how"]["embed"] = {"cpus": 2}  # the head has one
    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(data))
    (port,) = free_ports(1)
    job = ward.submit(tmp_path / "serve.yaml", "clean", "-m", "medsae_ray.cli", "serve", "--port", str(port))
    wait_for(lambda: job.over() or features_at(port), "the service")
    before = features_at(port)
    ward.lose_a_node(job, "ServeReplica", lambda: True, "serving")
    lost = time.monotonic()
    wait_for(lambda: job.over() or features_at(port), "the service again", 180)
    ward.say(f"the service answered again after {time.monotonic() - lost:.0f} s")
    assert not job.over() and features_at(port) == before
    job.stop()


def features_at(port: int) -> Any:
    """What the service says of its features; None where none answers."""
    with contextlib.suppress(requests.RequestException):
        answer = requests.get(f"http://127.0.0.1:{port}/v1/features", timeout=5)
        return answer.json() if answer.ok else None
    return None


def test_a_root_that_other_nodes_do_not_see_is_refused_before_the_first_stage(ward: Ward, recipe: Path) -> None:
    if not ward.cluster.own_disks:
        pytest.skip("this user may not give every node a disk of its own")
    root = ward.cluster.folder / "ray" / "root"  # of which every node has its own
    job = ward.cluster.submit(ward.upload, "jobs/pipeline.py", str(recipe), "--root", str(root))
    wait_for(job.over, "the refusal", 120)
    assert job.status() == "FAILED" and "does not see this folder" in job.log(), job.log()[-2000:]
    assert not list(root.glob("images-*"))
    job = ward.cluster.submit(ward.upload, "jobs/pipeline.py", str(recipe), "--root", "runs/x")
    wait_for(job.over, "the refusal", 120)
    assert job.status() == "FAILED" and "is a relative path" in job.log(), job.log()[-2000:]


@pytest.fixture(scope="module")
def naming(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("naming") / "naming.yaml"
    write_recipe(path, patients=200, epochs=120, naming=True)
    return path


@pytest.fixture(scope="module")
def named(ward: Ward, naming: Path) -> dict[str, dict[str, str]]:
    ward.submit(naming, "named").succeeds(1800)
    ward.say("the undisturbed run with names ended")
    return ward.bucket.checksums("named")


def test_a_node_is_lost_while_features_are_named(ward: Ward, naming: Path, named: dict[str, dict[str, str]]) -> None:
    bucket, job = ward.bucket, ward.submit(naming, "lost")
    ward.lose_a_node(job, "ServeReplica", lambda: bucket.has("lost", "ledger/names", "rows-"), "names")
    ward.lose_a_node(job, "ServeReplica", lambda: bucket.has("lost", "names", "record.json"), "answers")
    job.succeeds(1800)
    ward.say("the run ended")
    assert bucket.checksums("lost") == named
    assert not bucket.written_twice("lost") and not bucket.answered_twice("lost")


def test_the_store_is_away_while_features_are_named(ward: Ward, naming: Path, named: dict[str, dict[str, str]]) -> None:
    bucket, job = ward.bucket, ward.submit(naming, "mute")
    for stage, moment in (("names", ("ledger/names", "rows-")), ("answers", ("names", "record.json"))):
        wait_for(lambda m=moment: job.over() or bucket.has("mute", *m), stage, 600)
        assert not job.over(), job.log()[-4000:]
        ward.door.away(60).join()
        ward.say(f"the store was away for 60 s in {stage}")
    job.succeeds(1800)
    ward.say("the run ended")
    assert bucket.checksums("mute") == named
    assert not bucket.written_twice("mute") and not bucket.answered_twice("mute")
