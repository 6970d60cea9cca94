"""Metrics: what a node's port offers to Prometheus is what the status file says."""

import asyncio
import io
import re
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from medsae_ray.config import parse_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.engine import Usage
from medsae_ray.core.naming.prompts import question
from medsae_ray.pipeline import run_stage
from medsae_ray.runtime.board import Board
from medsae_ray.runtime.metrics import COUNTERS, GAUGES, RayMetrics
from medsae_ray.runtime.status import statuses
from tests.support.small import onnx_encoder, recipe_data, table_dataset

if TYPE_CHECKING:
    from medsae_ray.engine.client import ServeEngine

WAIT_S = 60


def offered(**tags: str) -> dict[tuple[str, str], float]:
    """(metric, stage) -> value at this node's port, of samples with these tags."""
    import ray

    (node,) = ray.nodes()
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=10) as reply:
        lines = reply.read().decode().splitlines()
    found = {}
    for name, labels, value in (m.groups() for line in lines if (m := re.match(r"(\w+)\{(.*)\} (\S+)$", line))):
        of = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if tags.items() <= of.items():
            found[name, of.get("stage", "")] = float(value)
    return found


def test_without_a_cluster_nothing_is_done() -> None:
    import ray

    board, metrics = Board(), RayMetrics("small", "a-run")
    with board.bar("embeddings", 3, "parts") as bar:
        bar.advance()
        metrics.look(board)
    assert ray.is_initialized() or not metrics.counted


def test_what_a_node_offers_are_the_numbers_of_the_status_file(ray_cluster: None, tmp_path: Path) -> None:
    data = recipe_data(table_dataset(tmp_path, 40), onnx_encoder(tmp_path / "e.onnx"), engine="ray")
    (tmp_path / "i0003.png").write_bytes(b"no image")
    root = tmp_path / "root"
    run_stage(parse_recipe(data), str(root), "embeddings")
    (told,) = statuses(Store(str(root)))
    stages = {stage["name"]: stage for stage in told["stages"]}
    embeddings = stages["embeddings"]
    assert (embeddings["done"], embeddings["total"], embeddings["rows"], embeddings["not_ok"]) == (5, 5, 40, 1)
    expected = {
        ("ray_medsae_stage_done", "embeddings"): 5,
        ("ray_medsae_stage_of", "embeddings"): 5,
        ("ray_medsae_stage_running", "embeddings"): 0,
        ("ray_medsae_stage_rows", "embeddings"): 40,
        ("ray_medsae_stage_rows_not_ok", "embeddings"): 1,
        ("ray_medsae_parts_total", "embeddings"): embeddings["counts"]["parts"],
        ("ray_medsae_images_total", "embeddings"): embeddings["counts"]["rows"],
        ("ray_medsae_images_not_ok_total", "embeddings"): embeddings["counts"]["not_ok"],
        ("ray_medsae_stage_rows", "manifest"): 40,
        ("ray_medsae_stage_seconds_count", "embeddings"): 1,
    }
    found: dict[tuple[str, str], float] = {}
    deadline = time.monotonic() + WAIT_S
    while not expected.items() <= found.items() and time.monotonic() < deadline:
        found = offered(run=told["run"])
        time.sleep(0.5)
    assert {key: found.get(key) for key in expected} == expected


def test_training_and_questions_have_metrics(ray_cluster: None) -> None:
    board, metrics = Board(), RayMetrics("small", f"a-run-{time.time_ns()}")
    expected = {
        ("ray_medsae_sae_fvu", "sae"): 0.25,
        ("ray_medsae_sae_epoch", "sae"): 7,
        ("ray_medsae_questions_total", "answers"): 12,
        ("ray_medsae_cached_tokens_total", "answers"): 300,
    }
    found: dict[tuple[str, str], float] = {}
    with board.bar("sae", 100, "epochs") as training, board.bar("answers", 50, "questions") as bar:
        training.reach(7, epoch=7, fvu=0.25, l0=3.0, dead=0.1)
        for _ in range(3):
            bar.count(prompt_tokens=400, cached_tokens=100)
            bar.advance(4)
            metrics.look(board)
        deadline = time.monotonic() + WAIT_S
        while not expected.items() <= found.items() and time.monotonic() < deadline:
            metrics.look(board)
            found = offered(run=metrics.tags["run"])
            time.sleep(0.5)
    assert {key: found.get(key) for key in expected} == expected
    assert {name for name, _ in found} <= {f"ray_{name}" for name in GAUGES} | {
        f"ray_{name}_total" for name in COUNTERS
    }


def test_vllms_own_metrics_are_offered(vlm_engine: "ServeEngine") -> None:
    stream = io.BytesIO()
    Image.new("L", (224, 224), 90).save(stream, "PNG")

    def asked() -> Usage:
        return asyncio.run(vlm_engine.ask(stream.getvalue(), [question("edema"), question("nodule")])).usage

    spent = asked()
    wanted = ("prompt_tokens_total", "prefix_cache_hits_total", "num_requests_waiting", "kv_cache_usage_perc")
    found: Mapping[tuple[str, str], float] = {}
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline and not all((f"ray_vllm_{name}", "") in found for name in wanted):
        asked()  # what an idle engine does not measure again, a node soon forgets
        found = offered()
        time.sleep(0.5)
    assert [name for name in wanted if (f"ray_vllm_{name}", "") not in found] == []
    assert found["ray_vllm_prompt_tokens_total", ""] >= spent.prompt_tokens - spent.cached_tokens > 0
