"""SAIL's grid of 28 SAEs on one table of embeddings, as a sweep and one by one: seconds and equality.

    python benchmarks/sae_sweep.py --json result.json

One by one, stage `sae` runs for each SAE in turn: a Ray Train worker with all cores (`--threads`). The sweep is stage
`sweep`, with a worker of one thread for each core. Both run on one Ray cluster and take existing embeddings. The grid
is cut into blocks with SAEs of all widths; each block runs as a sweep and then one by one, so a machine that slows down
slows both, and the sweep pays its start once per block. Rows are sums of 16 of 2048 random directions, or `--data`
(.npy, float32).
"""

import argparse
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import yaml
from rich.console import Console
from safetensors.numpy import load

from medsae_ray.config import Member, Recipe, Sweep, find_recipe, parse_recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Artifact, Draft, open_artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage
from medsae_ray.stages.sae import SAE
from medsae_ray.stages.sweep import SWEEP

SHARD = 8192
HELD_OUT = 1 / 11
"""Share of the rows that FVU is measured on; the others are trained on."""


def rows(n: int, d: int) -> np.ndarray:
    """Draw n rows in D dimensions, each a sum of 16 random directions."""
    rng = np.random.default_rng(0)
    atoms = rng.standard_normal((2048, d), dtype=np.float32)
    parts = []
    for start in range(0, n, SHARD):
        m = min(SHARD, n - start)
        code = np.zeros((m, len(atoms)), np.float32)
        np.put_along_axis(code, rng.integers(0, len(atoms), (m, 16)), rng.exponential(size=(m, 16)).astype("f4"), 1)
        parts.append(code @ atoms + 1)
    return np.concatenate(parts)


def stages(x_ND: np.ndarray) -> dict[str, Stage]:
    """Those that are measured, on a manifest and embeddings made of `x_ND`."""
    shards = [x_ND[start : start + SHARD] for start in range(0, len(x_ND), SHARD)]
    declared = {"manifest": schema.manifest([], []), "embeddings": schema.embeddings(x_ND.shape[1])}

    def write(draft: Draft) -> Made:
        writer = draft.writer(declared[draft.stage])
        return Made([writer.write(i, part(draft.stage, i, x), len(x)) for i, x in enumerate(shards)])

    def part(stage: str, shard: int, x_BD: np.ndarray) -> pa.Table:
        n = len(x_BD)
        ids = [f"{shard}-{i}" for i in range(n)]
        split = ["naming" if i % round(1 / HELD_OUT) == 0 else "sae" for i in range(n)]
        x = pa.FixedSizeListArray.from_arrays(pa.array(x_BD.ravel()), x_BD.shape[1]).cast(
            declared["embeddings"].types[1]
        )
        columns = {
            "manifest": [ids, ids, ["made"] * n, ids, [shard] * n, split, [True] * n],
            "embeddings": [ids, x, [True] * n, [None] * n],
        }
        return pa.Table.from_arrays(
            [pa.array(c, f.type) for c, f in zip(columns[stage], declared[stage], strict=True)], schema=declared[stage]
        )

    what = {"rows": x_ND.shape, "sum": float(x_ND.sum(dtype=np.float64))}
    manifest = Stage("manifest", 1, lambda recipe: (), lambda run: what, lambda run, draft: write(draft))
    embeddings = Stage("embeddings", 1, lambda recipe: ("manifest",), lambda run: what, lambda run, draft: write(draft))
    return {stage.name: stage for stage in (manifest, embeddings, SAE, SWEEP)}


def recipe(chosen: argparse.Namespace, threads: int) -> Recipe:
    """Make the packaged recipe of the sweep, with the command line's settings."""
    data = yaml.safe_load(find_recipe("sail-sweep").read_text())
    data["what"]["sae"] |= {"epochs": chosen.epochs, "batch_size": chosen.batch, "lr": 1e-3}
    data["how"] |= {"train": {"cpus": threads}, "engine": chosen.engine}
    return parse_recipe(data)


def changed(base: Recipe, **what: Any) -> Recipe:
    """Return a recipe with other fields of `what`."""
    return base.model_copy(update={"what": base.what.model_copy(update=what)})


def made(what: Recipe, root: str, name: str, of: dict[str, Stage]) -> tuple[Artifact, float]:
    """An artifact, and the seconds that it took once its embeddings were there."""
    with Run(what, Store(root), of, Console(quiet=True)) as run:
        run.artifact("embeddings")
        started = time.perf_counter()
        return run.artifact(name), time.perf_counter() - started


def training(sae: Artifact) -> float:
    """Seconds within epochs."""
    return float(sum(pq.read_table(pa.BufferReader(sae.file("log")))["seconds"].to_pylist()))


def difference(one: Artifact, other: Artifact) -> float:
    """The largest between two SAEs' tensors."""
    a, b = load(one.file("weights")), load(other.file("weights"))
    return max(float(np.abs(a[name].astype("f8") - b[name]).max()) for name in a)


def measure(chosen: argparse.Namespace, block: list[Member], folder: str, of: dict[str, Stage]) -> dict[str, Any]:
    """A sweep of some SAEs, and then each of them alone."""
    base = recipe(chosen, 1)
    _, seconds = made(
        changed(base, sweep=Sweep(grid={}, each=[m.changes for m in block])), f"{folder}/sweep", "sweep", of
    )
    print(f"sweep of {len(block)}: {seconds:.1f} s", flush=True)
    found: dict[str, Any] = {"sweep_s": seconds, "alone": []}
    for member in block:
        sae, alone = made(
            changed(recipe(chosen, chosen.threads), sae=member.sae, sweep=None), f"{folder}/alone", "sae", of
        )
        swept = open_artifact(f"{folder}/sweep/{sae.name}")
        run = {"settings": member.changes, "s": alone, "training_s": training(sae), "swept_s": training(swept)}
        found["alone"].append(
            run | {"difference": difference(sae, swept), "fvu": sae.record.metrics["last_epoch"]["fvu"]}
        )
        print(json.dumps(found["alone"][-1]), flush=True)
    return found


def summary(blocks: list[dict[str, Any]]) -> dict[str, Any]:
    """Add up the times of both ways, and compare their SAEs."""
    runs = [run for block in blocks for run in block["alone"]]
    sweep, alone = sum(block["sweep_s"] for block in blocks), sum(run["s"] for run in runs)
    return {
        "saes": len(runs),
        "sweep_s": round(sweep, 3),
        "one_by_one_s": round(alone, 3),
        "ratio": round(sweep / alone, 3),
        "training_in_sweep_s": round(sum(run["swept_s"] for run in runs), 3),
        "training_one_by_one_s": round(sum(run["training_s"] for run in runs), 3),
        "equal": sum(run["difference"] == 0 for run in runs),
        "largest_difference": max(run["difference"] for run in runs),
        "load": os.getloadavg(),
    }


def main() -> None:
    """Train the grid block by block in both ways, and print the totals after each."""
    chosen = _arguments()
    x_ND = np.load(chosen.data) if chosen.data else rows(chosen.n, chosen.d)
    of = stages(np.ascontiguousarray(x_ND, np.float32))
    members = recipe(chosen, 1).what.members().members
    if chosen.engine == "ray":
        ray.init(num_cpus=chosen.threads, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    blocks: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=chosen.folder) as folder:
        for first in range(chosen.blocks)[: chosen.only]:
            blocks.append(measure(chosen, members[first :: chosen.blocks], folder, of))
            print(json.dumps(summary(blocks), indent=1), flush=True)
            if chosen.json:
                Path(chosen.json).write_text(json.dumps(summary(blocks) | {"blocks": blocks}, indent=1))
    ray.shutdown()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", help="where the figures go")
    parser.add_argument("--data", help="rows of your own instead of made ones")
    parser.add_argument("--n", type=int, default=110_000, help="rows, one in eleven held out")
    parser.add_argument("--d", type=int, default=512, help="embedding dimension")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of one SAE alone; workers of a sweep")
    parser.add_argument("--blocks", type=int, default=7, help="so many sweeps, each followed by its SAEs one by one")
    parser.add_argument("--engine", default="ray", choices=("ray", "loop"))
    parser.add_argument("--only", type=int, help="stop after so many blocks")
    parser.add_argument("--folder", help="where artifacts go meanwhile")
    return parser.parse_args()


if __name__ == "__main__":
    main()
