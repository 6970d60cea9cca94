"""What a cluster cannot give is refused within seconds of the submission, by key and value, before anything is made."""

import copy
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.on_nodes.nodes import ROOT, Cluster
from tests.on_nodes.ward import BUCKET
from tests.support.outage import Door, settings, store
from tests.support.small import onnx_encoder, recipe_data, table_dataset

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

WITHIN_S = 20.0
"""From the command to its end."""
NAMING: dict[str, Any] = {"what": {"naming": {}}, "how": {"vlm": {"model": "builtin:phantom-vlm"}}}


@pytest.fixture(scope="module")
def door() -> Iterator[Door]:
    with store(BUCKET) as found:
        yield found


@pytest.fixture(scope="module")
def cluster(door: Door) -> Iterator[Cluster]:
    found = Cluster(settings(door))
    try:
        found.start_head(cpus=2)
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("data")
    return recipe_data(table_dataset(folder, 48), onnx_encoder(folder / "e.onnx"))


def merged(data: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    found = copy.deepcopy(data)
    for key, value in changes.items():
        found[key] = merged(found.get(key, {}), value) if isinstance(value, dict) else value
    return found


CASES = {
    "gpu": ({"how": {"embed": {"gpus": 1}}}, "how.embed.gpus is 1"),
    "share": ({"how": {"encode": {"gpus": 0.5}}}, "how.encode.gpus is 0.5"),
    "cpus of one node": ({"how": {"train": {"cpus": 64}}}, "how.train.cpus is 64"),
    "actors": ({"how": {"embed": {"actors": 50}}}, "how.embed.actors is 50"),
    "workers": ({"how": {"train": {"workers": 9}}}, "how.train.workers is 9"),
    "readers": ({"how": {"embed": {"reader_cpus": 9}}}, "how.embed.reader_cpus is 9"),
    "an engine on a GPU": (merged(NAMING, {"how": {"vlm": {"gpus": 1}}}), "how.vlm.gpus is 1"),
    "an engine that is split": (merged(NAMING, {"how": {"vlm": {"gpus": 2}}}), "how.vlm.gpus is 2"),
    "engines": (merged(NAMING, {"how": {"vlm": {"replicas": 9}}}), "how.vlm.replicas is 9"),
    "weights": ({"how": {"paths": {"weights": "/nowhere/e.onnx"}}}, "/nowhere/e.onnx"),
    "images": ({"how": {"paths": {"images": "/nowhere"}}}, "how.paths.images is /nowhere"),
    "a table": ({"how": {"paths": {"table": "/nowhere/labels.csv"}}}, "/nowhere/labels.csv"),
}


def refused(cluster: Cluster, recipe: Path, root: str, joined: bool) -> str:
    """What `medsae run` says before it ends with 1, soon."""
    environment = cluster.environment | {"PYTHONPATH": str(ROOT)}
    environment |= {"RAY_ADDRESS": f"127.0.0.1:{cluster.port}"} if joined else {}
    command = [sys.executable, "-m", "medsae_ray.cli", "run", str(recipe), "--root", root]
    start = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    seconds = time.monotonic() - start
    print(f"{seconds:.1f} s: {done.stderr.strip()}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert seconds < WITHIN_S
    return done.stderr


@pytest.mark.parametrize("joined", [True, False], ids=["on a cluster", "on this machine"])
@pytest.mark.parametrize("case", CASES)
def test_a_refusal_comes_at_once_and_names_key_and_value(
    cluster: Cluster, data: dict[str, Any], tmp_path: Path, case: str, joined: bool
) -> None:
    changes, said = CASES[case]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(merged(data, changes)))
    assert said in refused(cluster, tmp_path / "r.yaml", str(tmp_path / "root"), joined)
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(
    ("root", "shut"), [(f"s3://{BUCKET}/run", True), ("s3://no-such-bucket/run", False)], ids=["away", "no bucket"]
)
def test_a_root_that_cannot_be_written_is_refused_at_once(
    cluster: Cluster, data: dict[str, Any], door: Door, tmp_path: Path, root: str, shut: bool
) -> None:
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(data))
    if shut:
        door.shut.set()
    try:
        assert f"root {root} cannot be read or written" in refused(cluster, tmp_path / "r.yaml", root, joined=True)
    finally:
        door.shut.clear()


@pytest.mark.parametrize("key", ["images", "weights"])
def test_files_in_a_bucket_that_is_not_there_are_refused_at_once(
    cluster: Cluster, data: dict[str, Any], tmp_path: Path, key: str
) -> None:
    there = "s3://no-such-bucket/e.onnx"
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(merged(data, {"how": {"paths": {key: there}}})))
    said = refused(cluster, tmp_path / "r.yaml", str(tmp_path / "root"), joined=False)
    assert f"how.paths.{key} is {there}: this machine" in said
