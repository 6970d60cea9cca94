"""Every architecture trained through Ray Train by one worker, by two, and by two of which one is killed midway.

Embeddings of the packaged phantoms are made once. Prints, and writes as JSON, the held-out FVU of each run and the
differences of the latter two from the first. Two workers read their rows from files, one worker holds them in memory.
Usage: python benchmarks/sae_workers.py [--patients 1000] [--epochs 40] [--json result.json]
"""

import argparse
import json
import os
import shutil
import signal
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from medsae_ray.cluster.joining import cluster
from medsae_ray.config import Recipe, load_recipe, parse_recipe
from medsae_ray.pipeline import run_stage

LEVELS: dict[str, Any] = {"levels": [32, 64, 128]}
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "relu_l1": {"l1": 1.0},
    "topk": {"k": 8},
    "batch_topk": {"k": 8},
    "jumprelu": {"l0": 0.5},
    "gated": {"l1": 1.0},
    "matryoshka": {"k": 8, **LEVELS},
    "matryoshka, per level": {"selection": "per_level", "ks": [4, 6, 8], **LEVELS},
    "matryoshka, compat sail": {
        "selection": "per_level",
        "ks": [4, 6, 8],
        "compat": "sail",
        "normalisation": "l2",
        **LEVELS,
    },
}


def recipe_for(name: str, options: argparse.Namespace, workers: int) -> Recipe:
    """The packaged recipe with another SAE and number of workers; several workers read from files."""
    data = load_recipe("phantom").model_dump()
    data["what"]["dataset"]["patients"] = options.patients
    size = {"architecture": name.split(",")[0], "width": 128, "epochs": options.epochs, "batch_size": 100, "lr": 3e-3}
    data["what"]["sae"] = size | ARCHITECTURES[name]
    data["how"]["train"] = {"workers": workers, "checkpoint_epochs": 10, "memory_gb": 4 if workers == 1 else 0}
    return parse_recipe(data)


def kill_one(root: Path) -> None:
    """SIGKILL one training process below this one as soon as a checkpoint is there."""
    while not list(root.glob("sae-*/_attempts/*/epoch-*/state-*")):
        time.sleep(0.02)
    workers = [p for p in psutil.Process().children(recursive=True) if "RayTrainWorker" in " ".join(p.cmdline())]
    os.kill(workers[0].pid, signal.SIGKILL)


def measure(name: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One architecture."""
    fvu = {}
    for run, workers in (("one", 1), ("two", 2), ("killed", 2)):
        killer = threading.Thread(target=kill_one, args=(folder / run,))
        if run == "killed":
            killer.start()
        made = run_stage(recipe_for(name, options, workers), str(folder / run), "sae")
        if run == "killed":
            killer.join()
            assert made.record.metrics["resumed_from_epoch"] > 0, "the worker was killed too late"
        fvu[run] = made.record.metrics["last_epoch"]["fvu"]
    return fvu | {f"{run}_off_percent": 100 * (fvu[run] / fvu["one"] - 1) for run in ("two", "killed")}


def main() -> None:
    """Train each architecture in the three ways, and print and write their held-out FVU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--json", help="where the figures go")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as name:
        folder, first = Path(name), recipe_for("topk", options, 1)
        with cluster(first.how):
            run_stage(first, str(folder / "one"), "embeddings")
            for other in ("two", "killed"):
                shutil.copytree(folder / "one", folder / other)
            for architecture in ARCHITECTURES:
                found[architecture] = measure(architecture, options, folder)
                print(architecture, found[architecture], flush=True)
    if options.json:
        Path(options.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
