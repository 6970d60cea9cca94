"""The packaged recipes of volumes on other patients than their own: organs, planes and modality by one feature each.

    python benchmarks/phantom_volumes.py --root runs/volumes --seeds 31 32
    python benchmarks/phantom_volumes.py --root runs/volumes --seeds 31 32 --recipe phantom-volumes-sail

An organ is found if its best feature, chosen on other patients, has an AUROC of 0.90 or more on patients of the
held-out institutes, one slice each. Planes and modality are told by the one feature that stage `recovery` ranks first.
The best raw dimension stands beside each, chosen in the same way.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medsae_ray import open_artifact
from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.pipeline import run_recipe
from medsae_ray.stages.volumes import cohorts

FOUND = 0.90
ABOUT = ("plane=", "modality=", "sex=", "age", "institute=", "pathology=")


def changed(name: str, seed: int) -> Recipe:
    """The packaged recipe with other patients."""
    recipe = load_recipe(name)
    dataset = replace(cohorts(recipe)[0], seed=seed)
    return recipe.model_copy(update={"what": recipe.what.model_copy(update={"dataset": dataset})})


def measured(name: str, seed: int, root: Path) -> dict[str, Any]:
    """One cohort: counts of organs found, and AUROC of planes and modality."""
    summary = run_recipe(changed(name, seed), str(root / str(seed)), Console())
    found: dict[str, Any] = {organ: row for organ, row in summary["findings"].items() if organ in ORGANS}
    areas = {
        "feature": {organ: row["auroc"] for organ, row in found.items()},
        "dimension": {organ: row["dimension"]["auroc"] for organ, row in found.items()},
        "probe": {organ: row["probe"]["features"]["auroc"] for organ, row in found.items()},
    }
    counts = {f"found by {kind}": sum((a or 0) >= FOUND for a in of.values()) for kind, of in areas.items()}
    artifact = {stage["name"]: stage["artifact"] for stage in summary["stages"]}
    rows = open_artifact(str(root / str(seed) / artifact["recovery"])).table().to_pylist()
    single = {
        kind: {row["target"]: row["auroc"] for row in rows if row["kind"] == kind and row["n"] == 1}
        for kind in ("features", "dimensions")
    }
    about = {kind: {t: a for t, a in of.items() if t.startswith(ABOUT)} for kind, of in single.items()}
    return {"seed": seed} | counts | {"organs": len(found), "single": about, "areas": areas}


def main() -> None:
    """Measure each cohort and print counts, and the mean AUROC of each organ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument("--recipe", default="phantom-volumes")
    given = parser.parse_args()
    rows = [measured(given.recipe, seed, given.root) for seed in given.seeds]
    for row in rows:
        print(json.dumps({key: value for key, value in row.items() if key != "areas"}), flush=True)
    for organ in ORGANS:
        of = {kind: [row["areas"][kind].get(organ) for row in rows] for kind in rows[0]["areas"]}
        shown = (f"{kind} {np.mean([a for a in areas if a is not None] or [np.nan]):.3f}" for kind, areas in of.items())
        print(f"{organ:28s}", *shown)


if __name__ == "__main__":
    main()
