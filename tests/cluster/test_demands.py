"""What a run asks of a cluster, held against nodes, and the words of a refusal. No Ray is started."""

import json
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler.v2 import schema as ray_schema

from medsae_ray.cluster.capacity import Capacity, autoscaler_config, left_of
from medsae_ray.cluster.demands import Phase, engine_demand, pool_demands, task_demand, train_demand
from medsae_ray.cluster.packing import Growth, Kind, Node
from medsae_ray.cluster.placing import check_placeable, judged, no_growth
from medsae_ray.cluster.waiting import line_of
from medsae_ray.config import Recipe, load_recipe, parse_recipe
from medsae_ray.engine.vllm_options import bundles, strategy
from medsae_ray.errors import RecipeError
from medsae_ray.pipeline import STAGES
from medsae_ray.preflight.needs import phases_of, service_phase, share_problems
from tests.support.small import recipe_data
from tests.support.usual import engine_settings

WHOLE = [name for name in STAGES if name not in ("sweep", "organs")]


def nodes(*amounts: dict[str, float]) -> Capacity:
    return Capacity(tuple(Node(f"n{number}", of) for number, of in enumerate(amounts)))


def small(**how: Any) -> Recipe:
    return parse_recipe(recipe_data(Path("labels.csv"), Path("e.onnx"), **how))


def naming(**vlm: Any) -> Recipe:
    recipe = load_recipe("phantom")
    assert recipe.how.vlm
    return recipe.model_copy(
        update={"how": recipe.how.model_copy(update={"vlm": recipe.how.vlm.model_copy(update=vlm)})}
    )


def refused(recipe: Recipe, there: Capacity, stages: list[str] = WHOLE, growth: Growth | None = None) -> str:
    phases = phases_of(recipe, STAGES, stages)
    with pytest.raises(RecipeError) as caught:
        check_placeable(phases, there, lambda text: None, lambda: growth or Growth((), 0))
    return str(caught.value)


def test_the_default_run_fits_a_machine_of_two_cpus_and_none_of_one() -> None:
    phases = phases_of(load_recipe("phantom"), STAGES, WHOLE)
    assert not [one for one in judged(phases, nodes({"CPU": 2}), no_growth) if one.problem]
    said = refused(load_recipe("phantom"), nodes({"CPU": 1}))
    assert "problems:" in said and "how.train.workers is 2" in said


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"embed": {"gpus": 1.0}}, "how.embed.gpus is 1: {CPU: 1, GPU: 1} fits on no node"),
        ({"embed": {"cpus": 3.0}}, "how.embed.cpus is 3: {CPU: 3} fits on no node"),
        ({"embed": {"reader_cpus": 3.0}}, "how.embed.reader_cpus is 3"),
        ({"embed": {"actors": 5}}, "how.embed.actors is 5: 5 x {CPU: 1} (how.embed.cpus) at once have no room"),
        (
            {"embed": {"actors": 2, "cpus": 2.0}},
            "2 x {CPU: 2} (how.embed.cpus) and 1 x {CPU: 0.5} (how.embed.reader_cpus)",
        ),
        ({"encode": {"gpus": 0.5}}, "how.encode.gpus is 0.5"),
        ({"train": {"workers": 5}}, "how.train.workers is 5"),
        ({"train": {"cpus": 2.5}}, "how.train.cpus is 2.5"),
        ({"train": {"gpus": 1.0}}, "how.train.gpus is 1"),
    ],
)
def test_a_request_that_no_node_holds_names_key_value_and_the_largest_node(how: dict[str, Any], said: str) -> None:
    message = refused(small(**how), nodes({"CPU": 2}, {"CPU": 2}))
    assert said in message and "whose largest of 2 nodes has {CPU: 2, GPU: 0}" in message


@pytest.mark.parametrize(
    ("vlm", "there", "said"),
    [
        ({"gpus": 1}, [{"CPU": 8.0}], "how.vlm.gpus is 1"),
        (
            {"gpus": 2},
            [{"CPU": 8.0, "GPU": 1.0}] * 2,
            "how.vlm.gpus is 2: {CPU: 0.5, GPU: 2} on one node fits on no node",
        ),
        ({"gpus": 1, "replicas": 3}, [{"CPU": 8.0, "GPU": 2.0}], "how.vlm.replicas is 3"),
        ({"cpus": 9.0}, [{"CPU": 8.0}], "how.vlm.cpus is 9"),
        (
            {"cpus": 1.5},
            [{"CPU": 2.0}],
            "features and the engine takes 1 x {CPU: 1} (stage features) and 1 x {CPU: 1.5}",
        ),
    ],
)
def test_an_engine_is_refused_by_the_keys_that_there_are(
    vlm: dict[str, Any], there: list[dict[str, float]], said: str
) -> None:
    assert said in refused(naming(**vlm), nodes(*there))


def test_an_engine_behind_a_url_and_stages_that_are_there_ask_for_nothing() -> None:
    there = [phase.name for phase in phases_of(naming(url="http://host/v1"), STAGES, ["names", "answers"])]
    assert there == [] and phases_of(small(embed={"gpus": 1.0}), STAGES, ["atlas", "label_names"]) == []
    assert phases_of(small(engine="loop", embed={"gpus": 1.0}), STAGES, WHOLE) == []
    assert [p.name for p in phases_of(naming(), STAGES, ["features", "names"], beside=False)] == [
        "features",
        "the engine",
    ]


def test_what_serve_holds_is_named() -> None:
    there = nodes({"CPU": 1.5})._replace(held=("medsae-engine",))
    said = refused(small(train={"workers": 2}), there, ["sae"])
    assert "how.train.workers is 2" in said and "besides those that Ray Serve holds (medsae-engine)" in said


GPU = Kind("gpu", {"CPU": 8.0, "GPU": 1.0}, 4)


def test_what_the_cluster_may_start_is_waited_for_and_not_refused() -> None:
    phases = phases_of(small(embed={"actors": 4, "gpus": 1.0}), STAGES, ["embeddings"])
    (one,) = judged(phases, nodes({"CPU": 4}), lambda: Growth((GPU,), 12))
    assert one.waits == "waiting for 4 x {CPU: 1, GPU: 1} (how.embed.gpus): the cluster may start `gpu` nodes"
    said = refused(small(embed={"actors": 5, "gpus": 1.0}), nodes({"CPU": 4}), ["embeddings"], Growth((GPU,), 12))
    assert "how.embed.actors is 5" in said and "it may start 4 x `gpu` {CPU: 8, GPU: 1}" in said


def test_a_cluster_that_grows_in_ways_that_are_not_known_refuses_nothing() -> None:
    (one,) = judged(phases_of(small(embed={"gpus": 8.0}), STAGES, ["embeddings"]), nodes({"CPU": 4}), lambda: None)
    assert not one.problem and "cannot be learnt" in one.waits


CONFIG = {
    "max_workers": 5,
    "head_node_type": "head",
    "available_node_types": {
        "head": {"resources": {"CPU": 0}, "max_workers": 0, "node_config": {"secret": 1}},
        "decode": {"resources": {"CPU": 16}, "max_workers": 8},
        "gpu": {"resources": {"CPU": 8, "GPU": 1}, "max_workers": 4},
    },
}


def test_what_may_still_be_started_is_what_is_not_there_yet() -> None:
    grown = left_of(CONFIG, {"head": 1, "gpu": 3, "node_ff00": 1})
    assert grown == Growth((Kind("decode", {"CPU": 16.0, "GPU": 0.0}, 8), Kind("gpu", {"CPU": 8.0, "GPU": 1.0}, 1)), 2)
    assert left_of({**CONFIG, "available_node_types": {"any": {"max_workers": 2}}}, {}) is None


@pytest.mark.parametrize(
    ("address", "words", "found"),
    [
        ("10.0.0.1:6379", ["python", "/x/ray/autoscaler/_private/monitor.py", "--gcs-address=10.0.0.1:6379"], "file"),
        ("10.0.0.1:6379", ["python", "/x/ray/autoscaler/v2/monitor.py", "--gcs-address=10.0.0.1:6379"], "file"),
        (
            "10.0.0.1:7000",
            ["python", "/x/ray/autoscaler/_private/monitor.py", "--gcs-address=10.0.0.1:6379"],
            "nothing",
        ),
        ("10.0.0.1:6379", ["python", "monitor.py"], "nothing"),
    ],
)
def test_the_autoscalers_own_file_is_read(tmp_path: Path, address: str, words: list[str], found: str) -> None:
    (tmp_path / "config.yaml").write_text(json.dumps(CONFIG))
    (tmp_path / "12").mkdir()
    command = [*words, f"--autoscaling-config={tmp_path / 'config.yaml'}"]
    (tmp_path / "12" / "cmdline").write_bytes("\0".join(command).encode())
    read = autoscaler_config(address, tmp_path)
    assert (read is None) == (found == "nothing")
    if read:
        assert read["max_workers"] == 5 and read["available_node_types"]["gpu"]["max_workers"] == 4
        assert "node_config" not in json.dumps(read)


def test_an_autoscaler_without_a_file_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    (tmp_path / "12" / "cmdline").write_bytes(b"python\0/x/ray/autoscaler/_private/monitor.py")
    assert autoscaler_config("h:6379", tmp_path) == {}


def test_two_workers_do_not_share_a_gpu() -> None:
    shared = small(train={"workers": 2, "gpus": 0.5})
    (said,) = share_problems(shared, ["sae"])
    assert said.startswith("how.train.gpus is 0.5 with how.train.workers 2") and not [
        *share_problems(shared, ["sweep"])
    ]
    assert not [*share_problems(small(train={"workers": 1, "gpus": 0.5}), ["sae"])]


@pytest.mark.parametrize(
    "how",
    [
        {"embed": {"gpus": 1.5}},
        {"train": {"gpus": 2.5}},
        {"encode": {"gpus": float("inf")}},
        {"embed": {"cpus": float("inf")}},
        {"embed": {"cpus": 0.00001}},
        {"train": {"gpus": 0.00001}},
        {"vlm": {"model": "a/b", "gpus": 0.5}},
        {"vlm": {"model": "a/b", "cpus": float("inf")}},
    ],
)
def test_amounts_that_ray_cannot_give_are_refused_with_the_recipe(how: dict[str, Any]) -> None:
    ((section, keys),) = how.items()
    with pytest.raises(RecipeError, match=rf"how\.{section}\.{list(keys)[-1]}"):
        small(**how)


def test_a_service_that_does_not_fit_beside_its_engine_says_how_it_would() -> None:
    recipe = naming(gpus=1)
    recipe = recipe.model_copy(
        update={"how": recipe.how.model_copy(update={"embed": recipe.how.embed.model_copy(update={"gpus": 1.0})})}
    )
    there = nodes({"CPU": 8, "GPU": 1})
    with pytest.raises(RecipeError, match=r"--set how\.embed\.gpus=0 --set how\.encode\.gpus=0\), which encodes"):
        check_placeable([service_phase(recipe, 0.1, 1.0, engine=True)], there, lambda text: None, no_growth)
    check_placeable([service_phase(recipe, 0.1, 0.0, engine=True)], there, lambda text: None, no_growth)
    check_placeable([service_phase(recipe, 0.1, 1.0, engine=False)], there, lambda text: None, no_growth)


@pytest.mark.parametrize(("gpus", "packed"), [(0, "PACK"), (1, "PACK"), (2, "STRICT_PACK"), (4, "STRICT_PACK")])
def test_a_model_that_is_split_stays_on_one_node(gpus: int, packed: str) -> None:
    settings = engine_settings("x", gpus=gpus, cpus=0)
    assert strategy(settings) == packed
    (unit,) = engine_demand(0, gpus, 1).units
    assert [dict(bundle.amounts) for bundle in unit.bundles] == bundles(settings)


def status(tasks: list[tuple[dict[str, float], int]], groups: list[list[tuple[dict[str, float], int]]]) -> Any:
    """What Ray's sdk says of a cluster with these requests open."""
    counted = ray_schema.ResourceRequestByCount
    demand = ray_schema.ResourceDemandSummary(
        ray_task_actor_demand=[ray_schema.RayTaskActorDemand([counted(of, n)]) for of, n in tasks],
        placement_group_demand=[
            ray_schema.PlacementGroupResourceDemand([counted(of, n) for of, n in group], "") for group in groups
        ],
    )
    return ray_schema.ClusterStatus(resource_demands=demand)


def test_a_line_says_what_is_waited_for() -> None:
    actors = [*pool_demands("embeddings", small(embed={"actors": 2, "cpus": 3.0}).how.embed, "how.embed")]
    found = line_of(status([({"CPU": 3.0}, 5), ({"CPU": 7.0}, 1)], []), actors)
    assert found and found.startswith("waiting for 2 x {CPU: 3} (how.embed.cpus): no node has that free")
    assert line_of(status([({"CPU": 7.0}, 1)], []), actors) is None
    workers = [train_demand("sae", small(train={"workers": 2}).how.train)]
    found = line_of(status([], [[({"CPU": 1.0}, 2)]]), workers)
    assert found and found.startswith("waiting for 2 x {CPU: 1} (how.train.cpus)")
    engine = [engine_demand(1.0, 2, 1)]
    found = line_of(status([], [[({"CPU": 1.0, "GPU": 1.0}, 1), ({"GPU": 1.0}, 1)]]), engine)
    assert found and found.startswith("waiting for 1 x {CPU: 1, GPU: 2} (how.vlm.gpus)")


def test_tasks_queued_behind_running_ones_do_not_wait() -> None:
    """One group of a large archive takes minutes, and the next groups are queued in advance."""
    demands = [task_demand("features")]
    four = status([({"CPU": 1.0}, 4)], [])
    found = line_of(four, demands, asked=4)
    assert found and found.startswith("waiting for 1 x {CPU: 1} (stage features)")
    assert line_of(four, demands, asked=6) is None, "two of the six run"
    assert line_of(four, demands, asked=3), "another job waits too"


def test_phases_are_named_for_a_reader() -> None:
    assert Phase("features", ()).units == []
