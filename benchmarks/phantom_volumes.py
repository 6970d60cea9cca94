"""The packaged recipes of volumes on other patients than their own: organs, planes and modality by one feature each.

    python benchmarks/phantom_volumes.py --root runs/volumes --seeds 31 32
    python benchmarks/phantom_volumes.py --root runs/volumes --seeds 31 32 --recipe phantom-volumes-sail

An organ is found if its best feature, chosen on other patients, has an AUROC of 0.90 or more on patients of the
held-out institutes, one slice each. Planes and modality are told by the one feature that stage `recovery` ranks first.
The best raw dimension stands beside each, chosen in the same way. The same features are measured once more on all
slices of these patients.

Legend: N slices, F features.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from rich.console import Console

from medsae_ray import open_artifact
from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.analysis.auroc import auroc
from medsae_ray.core.artifacts.columns import activation_matrix, column
from medsae_ray.core.artifacts.metrics import SaeMetrics, metrics_of
from medsae_ray.core.phantom.volumes.body import ORGANS
from medsae_ray.pipeline import run_recipe
from medsae_ray.stages.volumes import cohorts

FOUND = 0.90
TABLES = ("manifest", "activations", "recovery")
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
    tables = {name: open_artifact(str(root / str(seed) / artifact[name])).table() for name in TABLES}
    rows = [row for row in tables["recovery"].to_pylist() if row["n"] == 1]
    rows = [row for row in rows if row["kind"] in ("features", "dimensions") and row["target"].startswith(ABOUT)]
    single = {
        kind: {row["target"]: row["auroc"] for row in rows if row["kind"] == kind}
        for kind in ("features", "dimensions")
    }
    chosen = {organ: row["feature"] for organ, row in found.items()}
    chosen |= {row["target"]: row["columns"][0] for row in rows if row["kind"] == "features" and row["columns"]}
    width = metrics_of(open_artifact(str(root / str(seed) / artifact["sae"])), SaeMetrics)["config"]["width"]
    z_NF = activation_matrix(tables["activations"], width).toarray()
    everywhere = on_all_slices(tables["manifest"], z_NF, chosen)
    told = [organ for organ in found if everywhere[organ] >= FOUND]
    counts |= {
        "organs": len(found),
        "found on all slices": len(told),
        "features that find them": len({chosen[organ] for organ in told}),
        "sae": {name: summary["sae"][name] for name in ("r2", "l0", "dead")},
        "single on all slices": {name: round(area, 3) for name, area in everywhere.items() if name.startswith(ABOUT)},
    }
    return {"seed": seed} | counts | {"single": single, "areas": areas | {"all slices": everywhere}}


def on_all_slices(manifest: pa.Table, z_NF: NDArray[np.float32], chosen: dict[str, int]) -> dict[str, float]:
    """Return target -> AUROC of its feature on all slices of held-out patients, in the direction that is above 0.5 for
    what is not an organ, as a probe has it."""
    test_N = column(manifest, "split") == "detection"
    return {
        target: max(area, 1 - area) if target.startswith(ABOUT) else area
        for target, feature in chosen.items()
        if (y_N := truth(manifest, target)) is not None
        for area in [auroc(z_NF[test_N, feature], y_N[test_N]).auc]
    }


def truth(manifest: pa.Table, target: str) -> NDArray[np.bool_] | None:
    """Return whether each slice shows an organ, or has a value of metadata; None for a number's range."""
    if target in ORGANS:
        shown_N: NDArray[np.bool_] = column(manifest, f"y_{target}") == 1
        return shown_N
    name, equal, value = target.partition("=")
    if not equal or name.endswith((">", "<")):
        return None
    has_N: NDArray[np.bool_] = column(manifest, f"m_{name}") == value
    return has_N


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
