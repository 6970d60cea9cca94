"""A run's board as metrics of Ray, which every node of a cluster offers to Prometheus.

Set by the driver, where receipts and answers arrive. Prometheus knows them with `ray_` before their names, and counters
with `_total` behind. vLLM's and Ray Serve's own come from the engine's replicas (`log_engine_metrics`).
"""

from functools import lru_cache
from typing import Any

import ray
from ray.util import metrics

from medsae_ray.runtime.board import RUNNING, Board, StageNow

TAGS = ("recipe", "run", "stage")
GAUGES = {
    "medsae_stage_running": "1 while the stage runs, else 0",
    "medsae_stage_done": "Amount of the stage's step done, including an earlier run's",
    "medsae_stage_of": "Value of medsae_stage_done at the end of the step",
    "medsae_stage_rows": "Rows (images, mostly) of the stage's artifact so far",
    "medsae_stage_rows_not_ok": "Rows of these that are not ok",
    "medsae_stage_rate": "Images, or the step's units, per second",
    "medsae_stage_left_seconds": "Estimated seconds until the step is done",
    "medsae_sae_epoch": "Epochs of training that are done",
    "medsae_sae_fvu": "Unexplained share of the variance of held-out embeddings",
    "medsae_sae_l0": "Mean active features per held-out image",
    "medsae_sae_dead": "Share of features that are active on no image",
}
COUNTERS = {
    "medsae_parts": ("parts", "Parts that this run computed"),
    "medsae_images": ("rows", "Images (rows of parts) that this run computed"),
    "medsae_images_not_ok": ("not_ok", "Of these, the ones that are not ok"),
    "medsae_names": ("names", "Features that the model was asked to name"),
    "medsae_questions": ("questions", "Questions about images that were answered"),
    "medsae_questions_failed": ("failed", "Of these, the ones without an answer"),
    "medsae_requests": ("requests", "Requests to the vision-language model"),
    "medsae_prompt_tokens": ("prompt_tokens", "Tokens of prompts"),
    "medsae_cached_tokens": ("cached_tokens", "Of these, the ones that the engine had in its prefix cache"),
    "medsae_output_tokens": ("output_tokens", "Tokens that the model wrote"),
}
"""The key in a stage's counts and the meaning of each counter."""
HISTOGRAMS = {"medsae_stage_seconds": "Duration of the stages that this run made"}
SECONDS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 4 * 3600.0, 12 * 3600.0, 48 * 3600.0)


class RayMetrics:
    """A listener that passes a board on to Ray, while this process is connected to a cluster."""

    every_s = 2.0

    def __init__(self, recipe: str, run: str) -> None:
        self.tags = {"recipe": recipe, "run": run}
        self.counted: dict[tuple[str, str], int] = {}
        self.timed: set[str] = set()

    def look(self, board: Board) -> None:
        """Set Ray's gauges, counters and stage times from the board."""
        if not ray.is_initialized():
            return
        for stage in board.now():
            tags = self.tags | {"stage": stage.name}
            for name, value in gauges_of(stage).items():
                _metric(name).set(value, tags)
            for name, (count, _) in COUNTERS.items():
                self._count(name, stage.counts.get(count, 0), tags)
            if stage.state != RUNNING and stage.artifact and stage.seconds and stage.name not in self.timed:
                self.timed.add(stage.name)
                _metric("medsae_stage_seconds").observe(stage.seconds, tags)

    def _count(self, name: str, total: int, tags: dict[str, str]) -> None:
        more = total - self.counted.get((name, tags["stage"]), 0)
        if more > 0:
            self.counted[name, tags["stage"]] = total
            _metric(name).inc(more, tags)


def gauges_of(stage: StageNow) -> dict[str, float]:
    """Return the gauges that a stage has by now."""
    found = {
        "medsae_stage_running": int(stage.state == RUNNING),
        "medsae_stage_done": stage.done,
        "medsae_stage_of": stage.total,
        "medsae_stage_rows": stage.rows,
        "medsae_stage_rows_not_ok": stage.not_ok,
        "medsae_stage_rate": stage.rate if stage.state == RUNNING else 0.0,
        "medsae_stage_left_seconds": stage.left_s if stage.state == RUNNING else 0.0,
        **{f"medsae_sae_{name}": value for name, value in stage.numbers.items()},
    }
    return {name: float(value) for name, value in found.items() if value is not None}


@lru_cache
def _metric(name: str) -> Any:
    """Return the metric of a name, one object per process, made on first use."""
    if name in GAUGES:
        return metrics.Gauge(name, GAUGES[name], TAGS)
    if name in COUNTERS:
        return metrics.Counter(name, COUNTERS[name][1], TAGS)
    return metrics.Histogram(name, HISTOGRAMS[name], list(SECONDS), TAGS)
