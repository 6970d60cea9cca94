"""The number of meaningless features with a verified name: activations shuffled across images, then tested.

    python benchmarks/shuffled_features.py RECIPE --root ROOT --seeds 3

RECIPE was run below ROOT with names. For each seed every feature's activations are shuffled among the images of each
split, which keeps its frequency and strengths and removes its meaning. Naming, detection and verdicts are the run's
own; any verified name is now due to chance.
"""

import argparse
import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
from rich.console import Console

from medsae_ray.config import load_recipe
from medsae_ray.core.artifacts import schema
from medsae_ray.core.artifacts.artifact import Draft
from medsae_ray.core.artifacts.columns import activation_matrix, readable
from medsae_ray.core.artifacts.store import Store
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.made import Made
from medsae_ray.runtime.run import Run, Stage


def shuffled(seed: int) -> Stage:
    """Stage `activations` with each feature's values dealt out anew among the readable images of each split."""

    def make(run: Run, draft: Draft) -> Made:
        real = run_activations(run)
        manifest = draft.parents["manifest"].table()
        ok_N = readable(draft.parents["embeddings"])
        split_N = manifest["split"].to_numpy(zero_copy_only=False)
        width = draft.parents["sae"].record.metrics["config"]["width"]
        x_NF = activation_matrix(real, width).toarray()
        rng = np.random.default_rng(seed)
        for split in schema.SPLITS:
            rows = np.flatnonzero((split_N == split) & ok_N)
            for feature in range(width):
                x_NF[rows, feature] = x_NF[rng.permutation(rows), feature]
        table = _table(real, x_NF, ok_N)
        writer, shard_N = draft.writer(schema.activations()), manifest["shard"].to_numpy(zero_copy_only=False)
        parts = [(int(s), table.filter(pa.array(shard_N == s))) for s in np.unique(shard_N)]
        return Made([writer.write(shard, part, part.num_rows) for shard, part in parts])

    base = STAGES["activations"]
    parents = ("manifest", *base.parents(None))  # type: ignore[arg-type]  # the same for every recipe
    return Stage("activations", base.version, lambda recipe: parents, lambda run: {"shuffled": seed}, make)


def run_activations(run: Run) -> pa.Table:
    """Read the activations of the finished run."""
    with Run(run.recipe, run.root, STAGES, Console(quiet=True)) as finished:
        return finished.artifact("activations").table()


def _table(real: pa.Table, x_NF: np.ndarray, ok_N: np.ndarray) -> pa.Table:
    active = [np.flatnonzero(row) if ok else None for row, ok in zip(x_NF, ok_N, strict=True)]
    values = [None if a is None else x_NF[n, a] for n, a in enumerate(active)]
    columns: dict[str, Any] = {"feature": active, "value": values}
    arrays = [
        pa.array(columns[f.name], f.type) if f.name in columns else real[f.name].combine_chunks()
        for f in schema.activations()
    ]
    return pa.Table.from_arrays(arrays, schema=schema.activations())


def main() -> None:
    """Name and test shuffled features for each seed, and print how many are verified."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--root", required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", help="write the counts here")
    args = parser.parse_args()
    total: Counter[str] = Counter()
    for seed in range(args.seeds):
        stages = STAGES | {"activations": shuffled(seed)}
        with Run(load_recipe(args.recipe), Store(args.root), stages, Console()) as run:
            scores = run.artifact("scores").table().to_pylist()
        verdicts = Counter(row["verdict"] for row in scores if row["source"] == "vlm")
        print(f"seed {seed}: {dict(verdicts)}", flush=True)
        total += verdicts
    print(f"{total.total()} shuffled features: {dict(total)}; {total['verified'] / total.total():.1%} verified")
    if args.json:
        with open(args.json, "w") as stream:
            json.dump(total, stream)


if __name__ == "__main__":
    main()
