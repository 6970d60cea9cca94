"""The number of names verified over several SAEs of one recipe, and the verdicts on the others.

    python benchmarks/verdicts.py RECIPE --root ROOT --seeds 0 1 2 3 4 --json result.json

The stages are the real ones, with one engine and one root for all SAEs, so the SAEs share embeddings and common
answers. `false` counts verified names that the truth contradicts. For phantoms, such a name is that of a planted
finding that is no more frequent on images with the feature active than on inactive ones (AUROC of the truth on the same
images 0.6 or less); null if there is no such label.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.artifacts.artifact import Artifact
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.datasets.rows import label_matrix
from medsae_ray.core.naming.controls import label_in
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from medsae_ray.stages.samples import DETECTION, by_feature

KINDS = ("features", "named", "verified", "rejected", "untested", "abstained", "insufficient_support", "dead", "failed")
LEAST_TRUE = 0.6


def with_seed(recipe: Recipe, seed: int) -> Recipe:
    """Return the recipe with another seed of the SAE."""
    sae = recipe.what.sae.model_copy(update={"seed": seed})
    return recipe.model_copy(update={"what": recipe.what.model_copy(update={"sae": sae})})


def false_names(run: Run, scores: Artifact) -> int:
    """Verified names of the model that say a label which does not tell the feature's images apart."""
    what, manifest = run.recipe.what, run.artifact("manifest")
    table, labels = manifest.table(), manifest.record.metrics["labels"]
    y_of = dict(zip(table["image_id"].to_pylist(), label_matrix(table, what.uncertain, what.blank), strict=True))
    rows_of = by_feature(run.artifact("samples").table(), DETECTION)

    def told(feature: int, label: str) -> float:
        rows = rows_of[feature]
        truth_n = np.array([y_of[row["image_id"]][labels.index(label)] for row in rows])
        known_n = ~np.isnan(truth_n)
        return auroc(truth_n[known_n], np.array([row["value"] > 0 for row in rows], dtype=float)[known_n]).auc

    verified = [r for r in scores.table().to_pylist() if r["source"] == "vlm" and r["verdict"] == "verified"]
    return sum(any(told(r["feature"], label) <= LEAST_TRUE for label in label_in(r["name"], labels)) for r in verified)


def figures(run: Run) -> dict[str, Any]:
    """Count a run's verdicts, and what else tells of its names."""
    scores, names = run.artifact("scores"), run.artifact("names").record.metrics
    metrics = scores.record.metrics
    of_model = {kind: metrics["vlm"][kind] for kind in KINDS} | {"false": false_names(run, scores)}
    seen = [label for label, ceiling in metrics["ceilings"].items() if ceiling["seen"]]
    by_label = {"label_verified": metrics["label"]["verified"], "chance": metrics["vlm"]["expected_by_chance"]}
    return of_model | by_label | {"taken_back": names["taken_back"], "sight": metrics["sight"], "seen": seen}


def main() -> None:
    """Run the recipe for each seed with one engine, and print and write the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--root", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--json", help="write the figures here")
    args = parser.parse_args()
    recipe, found = load_recipe(args.recipe), {}
    with Run(recipe, Store(args.root), STAGES, Console()) as first:
        engine = first.engine()
        for seed in args.seeds:
            with Run(with_seed(recipe, seed), first.root, STAGES, Console(), engine) as run:
                found[seed] = figures(run)
            print(seed, found[seed], flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
