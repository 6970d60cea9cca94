"""deploy/kuberay against KubeRay's own schemas, which lie beside the project, and against what the manifests name."""

import functools
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from medsae_ray.cli import parser
from medsae_ray.config import load_recipe
from medsae_ray.service.wire import CALLBACK
from serve.app import Arguments, Model
from tests.support.shared import SHARED

ROOT = Path(__file__).resolve().parents[1]
FOLDER, SCHEMAS = ROOT / "deploy" / "kuberay", SHARED / "data" / "kuberay"
KINDS = {"rayjob": "RayJob", "rayservice": "RayService", "raycronjob": "RayCronJob"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
needs_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason="KubeRay's schemas are not beside the project")
each_kind = pytest.mark.parametrize("name", KINDS)


def manifest(name: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text())


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """Of the version that KubeRay stores. Kubernetes drops keys that it does not know; here they are errors."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    definition = yaml.load((SCHEMAS / f"ray.io_{name}s.yaml").read_text(), Loader=loader)
    (version,) = (v for v in definition["spec"]["versions"] if v["storage"])
    found = version["schema"]["openAPIV3Schema"]
    del found["properties"]["metadata"]  # Kubernetes' own, which the definition leaves open
    return strict(found)


def strict(part: Any) -> Any:
    """The schema with every object closed whose keys it lists, and "number or text" as JSON Schema has it."""
    if isinstance(part, list):
        return [strict(inner) for inner in part]
    if not isinstance(part, dict):
        return part
    found = {key: strict(inner) for key, inner in part.items()}
    if isinstance(found.get("properties"), dict) and "additionalProperties" not in found:
        found["additionalProperties"] = False
    if found.get("x-kubernetes-int-or-string"):
        found.pop("anyOf", None)
        found["type"] = ["integer", "string"]
    return found


def refused(name: str, data: dict[str, Any]) -> list[str]:
    """What KubeRay's schema has against a manifest."""
    # Not jsonschema.validate, which would first hold the schema, a megabyte, against that of all schemas.
    checker = jsonschema.Draft202012Validator(schema(name))
    return [error.message for error in checker.iter_errors({k: v for k, v in data.items() if k != "metadata"})]


def job(name: str) -> dict[str, Any]:
    spec = manifest(name)["spec"]
    return spec["jobTemplate"] if name == "raycronjob" else spec


def cluster(name: str) -> dict[str, Any]:
    return job(name)["rayClusterConfig" if name == "rayservice" else "rayClusterSpec"]


def pods(name: str) -> dict[str, dict[str, Any]]:
    """The Pods of a cluster by group."""
    spec = cluster(name)
    groups = {group["groupName"]: group["template"]["spec"] for group in spec["workerGroupSpecs"]}
    return {"head": spec["headGroupSpec"]["template"]["spec"]} | groups


@needs_schemas
@each_kind
def test_kuberay_accepts_it(name: str) -> None:
    found = manifest(name)
    assert (found["apiVersion"], found["kind"]) == ("ray.io/v1", KINDS[name])
    assert re.fullmatch("[a-z]([-a-z0-9]{0,40}[a-z0-9])?", found["metadata"]["name"])
    assert refused(name, found) == []


@needs_schemas
@each_kind
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("rayVersoin", "2.60.0", "'rayVersoin' was unexpected"),
        ("enableInTreeAutoscaling", "yes", "'yes' is not of type 'boolean'"),
        ("authOptions", {"mode": "tokens"}, "'tokens' is not one of"),
        ("headGroupSpec", {"rayStartParams": {"num-cpus": 0}}, "0 is not of type 'string'|'template' is a required"),
    ],
)
def test_a_mistake_in_it_is_refused(name: str, key: str, value: Any, message: str) -> None:
    found = manifest(name)
    spec = found["spec"]["jobTemplate"] if name == "raycronjob" else found["spec"]
    spec["rayClusterConfig" if name == "rayservice" else "rayClusterSpec"][key] = value
    assert re.search(message, "\n".join(refused(name, found)))


@needs_schemas
def test_the_option_in_a_comment_is_accepted_too() -> None:
    text = (FOLDER / "rayservice.yaml").read_text()
    (option,) = re.findall(r"^    # gcsFaultToleranceOptions:\n(?:    #   .*\n)+", text, re.MULTILINE)
    found = yaml.safe_load(text.replace(option, option.replace("    # ", "    ")))
    assert found["spec"]["rayClusterConfig"]["gcsFaultToleranceOptions"]["redisAddress"]
    assert refused("rayservice", found) == []


@each_kind
def test_ray_and_the_image_are_those_of_the_project(name: str) -> None:
    (ray,) = {match for line in PROJECT["dependencies"] for match in re.findall(r"^ray\[.*\]==(.*)$", line)}
    assert cluster(name)["rayVersion"] == ray
    images = {container["image"] for pod in pods(name).values() for container in pod["containers"]}
    assert images == {f"REGISTRY/medsae-ray:{PROJECT['version']}-gpu"}
    assert f"-t {images.pop()} " in (ROOT / "deploy" / "Dockerfile").read_text()


@each_kind
def test_the_head_does_no_work_and_every_group_grows_from_what_it_needs(name: str) -> None:
    spec = cluster(name)
    assert spec["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"} and spec["enableInTreeAutoscaling"]
    for group in spec["workerGroupSpecs"]:
        least = 1 if name == "rayservice" else 0
        assert group["minReplicas"] == least <= group["maxReplicas"] and group["rayStartParams"] == {}


@each_kind
def test_a_pod_asks_for_what_its_limits_say_and_fits_its_machine(name: str) -> None:
    machines = {"m7i.xlarge": (4, 16), "c7i.4xlarge": (16, 32), "g6.2xlarge": (8, 32), "g6e.12xlarge": (48, 384)}
    on = {"head": "m7i.xlarge", "service": "m7i.xlarge", "decode": "c7i.4xlarge"}
    for group, pod in pods(name).items():
        machine = pod.get("nodeSelector", {}).get("node.kubernetes.io/instance-type") or on[group]
        (container,) = pod["containers"]
        requests, limits = container["resources"]["requests"], container["resources"]["limits"]
        assert {key: requests[key] for key in limits} == limits
        cpus, memory = machines[machine]
        assert int(limits["cpu"]) < cpus and int(limits["memory"].removesuffix("Gi")) <= 0.9 * memory
        gpus = int(limits.get("nvidia.com/gpu", 0))
        assert bool(gpus) == group.startswith("gpu") == ("tolerations" in pod)


@each_kind
def test_pods_are_no_root_mount_what_they_name_and_have_the_secrets(name: str) -> None:
    account = manifest("account")["metadata"]["name"]
    for pod in pods(name).values():
        assert pod["securityContext"]["runAsNonRoot"] and pod["serviceAccountName"] == account
        (container,) = pod["containers"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        assert container["envFrom"] == [{"secretRef": {"name": "medsae"}}]
        assert {"name": "recipes", "mountPath": "/recipes", "readOnly": True} in container["volumeMounts"]


@pytest.mark.parametrize("name", ["rayjob", "raycronjob"])
def test_the_entry_point_is_a_command_of_ours_on_an_object_store(name: str) -> None:
    spec = job(name)
    program, *arguments = shlex.split(spec["entrypoint"])
    chosen = parser().parse_args(arguments)
    assert program in PROJECT["scripts"] and chosen.root.startswith("s3://")
    assert f"{Path(chosen.recipe).name} in it" in (FOLDER / f"{name}.yaml").read_text()
    assert chosen.recipe.startswith("/recipes/") and spec["submissionMode"] == "K8sJobMode"
    assert spec["shutdownAfterJobFinishes"] and spec["backoffLimit"] > 0 and "entrypointNumCpus" not in spec


def test_the_nightly_run_is_the_run_by_the_clock() -> None:
    nightly, run = job("raycronjob"), job("rayjob")
    assert nightly["rayClusterSpec"] == run["rayClusterSpec"]
    assert set(nightly) - set(run) == {"activeDeadlineSeconds"}
    assert nightly["activeDeadlineSeconds"] < 24 * 3600 and len(manifest("raycronjob")["spec"]["schedule"].split()) == 5


def test_the_service_is_that_of_serve_deploy() -> None:
    given = yaml.safe_load(job("rayservice")["serveConfigV2"])
    own = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    here, there = (ServeDeploySchema.model_validate(config).applications for config in (given, own))
    assert [(a.name, a.import_path, a.route_prefix) for a in here] == [
        (a.name, a.import_path, a.route_prefix) for a in there
    ]
    recipes = {Model(**here[0].args).recipe, Arguments(**here[1].args).recipe}
    assert recipes == {"/recipes/serve.yaml"} and given["http_options"]["host"] == "0.0.0.0"
    scaling = [
        app["deployments"][0]["autoscaling_config"] for app in (given["applications"][1], own["applications"][1])
    ]
    assert scaling[0] == scaling[1]
    group = next(g for g in cluster("rayservice")["workerGroupSpecs"] if g["groupName"] == "service")
    assert group["maxReplicas"] == scaling[0]["max_replicas"]
    for pod in pods("rayservice").values():
        assert {v["name"]: v["value"] for v in pod["containers"][0]["env"]} == CALLBACK


@pytest.mark.parametrize(
    ("recipe", "group"), [("chexpert-medclip-medgemma", "gpu"), ("chexpert-medclip-medgemma-27b", "gpu-large")]
)
def test_the_mission_fits_one_pod_and_one_machine(recipe: str, group: str) -> None:
    """The engine with all its GPUs in one node, and every other actor too."""
    how = load_recipe(recipe).how
    assert how.vlm is not None
    limits = pods("rayjob")[group]["containers"][0]["resources"]["limits"]
    machine = yaml.safe_load((ROOT / "cluster.yaml").read_text())["available_node_types"][group]["resources"]
    for cpus, gpus in ((int(limits["cpu"]), int(limits["nvidia.com/gpu"])), (machine["CPU"], machine["GPU"])):
        asked = [(how.vlm.cpus, how.vlm.gpus), *((pool.cpus, pool.gpus) for pool in (how.embed, how.encode, how.train))]
        assert all(c <= cpus and g <= gpus for c, g in asked)
        assert how.embed.actors * how.embed.gpus <= gpus and how.train.workers * how.train.gpus <= gpus


def test_account_and_volume_are_what_kubernetes_has() -> None:
    account, volume = manifest("account"), manifest("volume")
    assert (account["apiVersion"], account["kind"]) == ("v1", "ServiceAccount")
    assert (volume["kind"], volume["spec"]["accessModes"]) == ("PersistentVolumeClaim", ["ReadWriteMany"])
