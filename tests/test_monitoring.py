"""deploy/monitoring: every metric that the dashboard asks for is one that this project, vLLM or Ray defines."""

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from medsae_ray.runtime.metrics import COUNTERS, GAUGES, HISTOGRAMS, TAGS
from medsae_ray.service.metrics import Metrics

ENDS = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
FOLDER = Path(__file__).resolve().parents[1] / "deploy" / "monitoring"
BOARD: dict[str, Any] = json.loads((FOLDER / "grafana-dashboard.json").read_text())
ASKED = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]
OURS = {
    *(f"ray_{name}" for name in GAUGES),
    *(f"ray_{name}_total" for name in COUNTERS),
    *(f"ray_{name}{part}" for name in HISTOGRAMS for part in ("_bucket", "_sum", "_count")),
}


def names(of: str) -> set[str]:
    return {name for text in ASKED for name in re.findall(r"\bray_\w+", text) if name.startswith(of)}


def source(package: str, *inside: str) -> str:
    found = importlib.util.find_spec(package)
    if found is None or found.submodule_search_locations is None:
        pytest.skip(f"{package} is not installed")
    (folder,) = found.submodule_search_locations
    return "".join(path.read_text() for part in inside for path in sorted(Path(folder).glob(part)))


def test_every_metric_of_ours_is_defined_and_shown() -> None:
    assert names("ray_medsae_") <= OURS
    shown = {re.sub(r"_(total|bucket|sum|count)$", "", name) for name in names("ray_medsae_")}
    assert shown == {f"ray_{name}" for name in (*GAUGES, *COUNTERS, *HISTOGRAMS)}, "nothing is measured for nobody"


def test_every_metric_of_vllm_is_one_of_this_vllm() -> None:
    defined = re.findall(r'name="vllm:(\w+)"', source("vllm", "v1/metrics/loggers.py"))
    for name in names("ray_vllm_"):
        bare = re.sub(r"_(total|bucket|sum|count)$", "", name.removeprefix("ray_vllm_"))
        assert bare in defined, name


def test_every_other_metric_is_one_of_this_ray() -> None:
    text = source("ray", "serve/_private/*.py", "dashboard/modules/reporter/reporter_agent.py")
    others = {name for name in names("ray_") if not name.startswith(("ray_medsae_", "ray_vllm_"))}
    assert others and all(f'"{name.removeprefix("ray_")}"' in text for name in others)


def test_every_tag_in_a_query_is_one_that_is_set() -> None:
    tags = {tag for text in ASKED for tag in re.findall(r"ray_medsae_\w+\{([^}]*)\}", text)}
    assert {name for text in tags for name in re.findall(r"(\w+)=", text)} <= set(TAGS)
    variables = {entry["name"] for entry in BOARD["templating"]["list"]}
    assert {name for text in ASKED for name in re.findall(r"\$(\w+)", text)} <= variables


def test_panels_do_not_lie_on_each_other() -> None:
    cells = [
        (x, y)
        for panel in BOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24


def test_prometheus_reads_the_list_that_ray_keeps() -> None:
    from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

    job, service = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    assert service["static_configs"] == [{"targets": ["127.0.0.1:8000"]}]
    (files,) = (entry["files"] for entry in job["file_sd_configs"])
    assert files == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]


SERVICE: dict[str, Any] = json.loads((FOLDER / "grafana-service.json").read_text())


def test_the_service_has_every_metric_of_its_dashboard_and_of_its_page_and_all_are_shown() -> None:
    offered = {s.name for family in Metrics().registry.collect() for s in family.samples} | {
        f"{family.name}{end}" for family in Metrics().registry.collect() for end in ENDS[family.type]
    }
    queries = [target["expr"] for panel in SERVICE["panels"] for target in panel["targets"]]
    asked = {name for text in queries for name in re.findall(r"\bmedsae_\w+", text)}
    assert asked <= offered
    page = (FOLDER / "README.md").read_text()
    for family in Metrics().registry.collect():
        assert any(name.startswith(family.name) for name in asked), family.name
        assert f"`{family.name}" in page, family.name


def test_the_services_dashboard_asks_vllm_for_what_it_has() -> None:
    defined = re.findall(r'name="vllm:(\w+)"', source("vllm", "v1/metrics/loggers.py"))
    queries = "".join(target["expr"] for panel in SERVICE["panels"] for target in panel["targets"])
    assert {name for name in re.findall(r"ray_vllm_(\w+)", queries)} <= set(defined)
