"""The time of naming and analysis in parallel and one after the other, each long enough to measure.

A phantom run whose features are tested with so many label permutations that the analysis takes about as long as naming.
Its earlier stages run once. Then it is finished twice: as a run does it, and branch by branch. Prints JSON.
Usage: python benchmarks/overlap.py [--patients 3000] [--permutations 10000]
"""

import argparse
import json
import os
import platform
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.pipeline import STAGES, run_recipe, run_stage
from medsae_ray.runtime.run import Run
from medsae_ray.stages.images import hospitals

BRANCHES = (("features",), ("names", "answers"))


def phantom(patients: int, permutations: int) -> Recipe:
    """The packaged recipe with another number of patients and permutations."""
    recipe = load_recipe("phantom")
    assert recipe.what.dataset is not None, "the packaged recipe has one dataset"
    dataset = replace(hospitals(recipe)[0], patients=patients)
    features = recipe.what.features.model_copy(update={"permutations": permutations})
    return recipe.model_copy(update={"what": recipe.what.model_copy(update={"dataset": dataset, "features": features})})


def one_by_one(recipe: Recipe, root: Path) -> dict[str, float]:
    """Seconds of each stage of both branches with the machine to itself."""
    with Run(recipe, Store(str(root)), STAGES, Console(quiet=True)) as run:
        run.connect()
        for stage in (stage for branch in BRANCHES for stage in branch):
            run.artifact(stage)
        return {row.name: round(row.seconds, 1) for branch in BRANCHES for row in run.rows if row.name in branch}


def main() -> None:
    """Finish the same run side by side and branch by branch, and print both times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=3000)
    parser.add_argument("--permutations", type=int, default=10000)
    options = parser.parse_args()
    recipe = phantom(options.patients, options.permutations)
    with tempfile.TemporaryDirectory() as folder:
        together, apart = Path(folder) / "together", Path(folder) / "apart"
        for stage in ("activations", "samples"):
            run_stage(recipe, str(together), stage)
        shutil.copytree(together, apart)
        summary = run_recipe(recipe, str(together))
        alone = one_by_one(recipe, apart)
    seconds: dict[str, Any] = {row["name"]: round(row["seconds"], 1) for row in summary["stages"]}
    overlap = summary["overlap"]
    assert overlap is not None, "the recipe names features"
    result = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "patients": options.patients,
        "permutations": options.permutations,
        "overlap": overlap,
        "makespan_over_sum": overlap["makespan_s"] / overlap["sum_s"],
        "side_by_side_s": {name: seconds[name] for name in alone},
        "one_by_one_s": alone,
        "makespan_over_sum_one_by_one": overlap["makespan_s"] / sum(alone.values()),
        "names": {key: summary["names"][key] for key in ("named", "verified")},
        "requests": summary["vlm"]["requests"],
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
