"""cluster.yaml against the schema of Ray's cluster launcher; no cloud is asked."""

import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from medsae_ray.cluster.capacity import Capacity, left_of
from medsae_ray.cluster.packing import Node
from medsae_ray.cluster.placing import judged
from medsae_ray.config import load_recipe
from medsae_ray.pipeline import STAGES
from medsae_ray.preflight.needs import phases_of

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def cluster() -> dict[str, Any]:
    """As a user would load it: a fresh copy for each test."""
    return yaml.safe_load((ROOT / "cluster.yaml").read_text())


def accepted(cluster: dict[str, Any]) -> dict[str, Any]:
    """`cluster` with Ray's defaults filled in; raises what `ray up` would stop at."""
    prepared = prepare_config(cluster)
    validate_config(prepared)
    return prepared


def test_ray_accepts_the_cluster(cluster: dict[str, Any]) -> None:
    prepared = accepted(cluster)
    types = prepared["available_node_types"]
    assert types[prepared["head_node_type"]]["max_workers"] == 0
    assert sum(kind["max_workers"] for kind in types.values()) == prepared["max_workers"]
    assert types["gpu"]["resources"]["GPU"] == 1 and types["gpu-large"]["resources"]["GPU"] >= 2


def test_an_unknown_key_is_refused(cluster: dict[str, Any]) -> None:
    with pytest.raises(jsonschema.ValidationError, match="'max_wrokers' was unexpected"):
        accepted({**cluster, "max_wrokers": 3})


def test_a_head_of_an_unknown_type_is_refused(cluster: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="`head_node_type` must be one of `available_node_types`"):
        accepted({**cluster, "head_node_type": "haed"})


def test_more_workers_than_a_number_are_refused(cluster: dict[str, Any]) -> None:
    cluster["available_node_types"]["gpu"]["max_workers"] = "four"
    with pytest.raises(jsonschema.ValidationError, match="'four' is not of type 'integer'"):
        accepted(cluster)


def test_every_node_installs_the_pinned_torch_and_then_the_project_for_gpus(cluster: dict[str, Any]) -> None:
    prepared, project = accepted(cluster), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (torch,) = (line for line in project["dependencies"] if line.startswith("torch"))
    assert "gpu" in project["optional-dependencies"]
    for node in ("head", "worker"):
        script = " && ".join(prepared[f"{node}_setup_commands"])
        assert 0 < script.index(f"install -q {torch}") < script.index('-e "$HOME/medsae-ray[gpu]"')
    assert prepared["file_mounts"]["~/medsae-ray"] == "."


def test_only_the_head_is_given_what_starts_workers(cluster: dict[str, Any]) -> None:
    prepared = accepted(cluster)
    assert "boto3" in prepared["head_setup_commands"][-1]
    assert not [line for line in prepared["worker_setup_commands"] if "boto3" in line]


def test_all_nodes_start_from_one_image_and_workers_may_reach_the_store(cluster: dict[str, Any]) -> None:
    nodes = {name: kind["node_config"] for name, kind in cluster["available_node_types"].items()}
    assert len({node["ImageId"] for node in nodes.values()}) == 1
    assert [name for name, node in nodes.items() if "IamInstanceProfile" not in node] == ["head"]


def test_no_upload_takes_the_environment_or_the_runs_along(cluster: dict[str, Any]) -> None:
    assert {".git", ".venv", "runs"} <= set(cluster["rsync_exclude"])


def test_the_head_does_no_work_and_nothing_is_up_before_it_is_asked_for(cluster: dict[str, Any]) -> None:
    types = accepted(cluster)["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert {name: kind["min_workers"] for name, kind in types.items()} == dict.fromkeys(types, 0)
    assert "--num-cpus=0 --num-gpus=0 " in " ".join(cluster["head_start_ray_commands"])


def test_all_nodes_have_one_token_and_ask_for_it(cluster: dict[str, Any]) -> None:
    prepared = accepted(cluster)
    assert prepared["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    for node in ("head", "worker"):
        (start,) = (line for line in prepared[f"{node}_start_ray_commands"] if "ray start" in line)
        assert "export RAY_AUTH_MODE=token; ray start" in start and "\n" not in start


def test_disks_hold_what_the_comments_count(cluster: dict[str, Any]) -> None:
    disks = {
        name: kind["node_config"]["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"]
        for name, kind in cluster["available_node_types"].items()
    }
    system, rows = 80 + 15, 4 * 512 * 1e8 / 1e9
    assert disks["gpu"] >= system + 10 + rows + 40 - 1 and disks["gpu-large"] >= disks["gpu"] + 50
    assert disks["decode"] >= system + 40 + 10 and disks["head"] > system


@pytest.mark.parametrize("recipe", ["chexpert-medclip-medgemma", "chexpert-medclip-medgemma-27b"])
@pytest.mark.parametrize("cloud", ["aws", "gcp", "azure"])
def test_a_run_on_the_head_alone_waits_for_nodes_and_is_not_refused(
    cluster: dict[str, Any], cloud: str, recipe: str
) -> None:
    config = accepted(cluster if cloud == "aws" else {**cluster, **block(cloud)})
    capacity = Capacity((Node("head", {"CPU": 0.0, "GPU": 0.0}),))
    phases = phases_of(load_recipe(recipe), STAGES, STAGES)
    found = judged(phases, capacity, lambda: left_of(config, {config["head_node_type"]: 1}))
    assert [one.problem for one in found if one.problem] == [] and all(one.waits for one in found)
    (engine,) = (one.waits for one in found if one.phase.name == "features and the engine")
    assert ("`gpu-large`" in engine) == recipe.endswith("27b") and "(how.vlm.gpus)" in engine


def block(cloud: str) -> dict[str, Any]:
    """What deploy/README.md puts in the place of AWS's keys."""
    page = (ROOT / "deploy" / "README.md").read_text()
    (text,) = re.findall(rf"```yaml\n# {cloud}\n(.*?)```", page, flags=re.DOTALL)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


@pytest.mark.parametrize("cloud", ["gcp", "azure"])
def test_ray_accepts_the_blocks_for_other_clouds(cluster: dict[str, Any], cloud: str) -> None:
    other = block(cloud)
    types, own = accepted({**cluster, **other})["available_node_types"], cluster["available_node_types"]
    assert set(types) == set(own) and types["head"]["resources"] == {"CPU": 0}
    assert types["gpu-large"]["resources"]["GPU"] >= 2 and types["gpu"]["resources"]["GPU"] == 1
    assert all(types[name]["max_workers"] == own[name]["max_workers"] for name in own if name != "head")
    assert "boto3" not in " ".join(other["head_setup_commands"])
