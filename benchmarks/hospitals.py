"""The packaged recipe on hospitals that no setting was chosen on: findings, and right and verified names.

    python benchmarks/hospitals.py --root runs/hospitals --seeds 1001 1002 1003
    python benchmarks/hospitals.py --root runs/hospitals --seeds 1001 1002 1003 --without-names

A finding is found if its best feature has an AUROC of 0.90 or more on test patients. Its name is right if the
vision-language model calls that feature by it and the name is verified. A verified name of a planted finding is false
if its correlation with the feature is below 0.3. The best raw dimension and linear probes are the baselines.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medsae_ray import open_artifact
from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.engine import Engine
from medsae_ray.core.phantom import FINDINGS
from medsae_ray.outputs.summary_types import Summary
from medsae_ray.pipeline import STAGES, run_recipe
from medsae_ray.runtime.run import Run
from medsae_ray.stages.images import hospitals

FOUND, GOES_WITH = 0.90, 0.3


def hospital(seed: int, names: bool) -> Recipe:
    """The packaged recipe with other patients, and one training worker: an engine that runs beside it has a CPU too."""
    recipe = load_recipe("phantom")
    assert recipe.what.dataset is not None, "the packaged recipe has one dataset"
    dataset = replace(hospitals(recipe)[0], seed=seed)
    changed = {"dataset": dataset} | ({} if names else {"naming": None})
    how = recipe.how.model_copy(update={"train": recipe.how.train.model_copy(update={"workers": 1})})
    return recipe.model_copy(update={"what": recipe.what.model_copy(update=changed), "how": how})


def measured(seed: int, root: Path, engine: Engine | None) -> dict[str, Any]:
    """One hospital: figures by finding, and counts."""
    names = engine is not None
    summary = run_recipe(hospital(seed, names), str(root / str(seed)), Console(), engine)
    found: dict[str, Any] = {label: summary["findings"][label] for label in FINDINGS}
    areas = {
        "feature": {label: row["auroc"] for label, row in found.items()},
        "dimension": {label: row["dimension"]["auroc"] for label, row in found.items()},
        "probe": {label: row["probe"]["features"]["auroc"] for label, row in found.items()},
    }
    counts: dict[str, Any] = {f"found by {kind}": sum(a >= FOUND for a in of.values()) for kind, of in areas.items()}
    if names:
        counts["right"] = sum(r["name"] == label and r["verdict"] == "verified" for label, r in found.items())
        verified = verified_names(root / str(seed), summary)
        counts["verified"], counts["false"] = len(verified), sum(r is not None and r < GOES_WITH for _, r in verified)
        counts["others"] = sorted(name for name, r in verified if r is None)
    return {"seed": seed, "sae": summary["sae"]} | counts | {"areas": areas}


def verified_names(root: Path, summary: Summary) -> list[tuple[str, float | None]]:
    """Each verified name, with its feature's correlation where it is that of a planted finding."""
    artifact = {stage["name"]: stage["artifact"] for stage in summary["stages"]}
    atlas = open_artifact(str(root / artifact["atlas"]))
    labels = atlas.record.metrics["labels"]
    r_of = {row["feature"]: dict(zip(labels, row["r"], strict=True)) for row in atlas.table().to_pylist()}
    scores = open_artifact(str(root / artifact["scores"])).table().to_pylist()
    verified = [row for row in scores if row["source"] == "vlm" and row["verdict"] == "verified"]
    return [(row["name"], r_of[row["feature"]].get(row["name"])) for row in verified]


@contextmanager
def one_engine(given: argparse.Namespace) -> Iterator[Engine | None]:
    """One start of the model for all hospitals; None where no names are asked for."""
    if given.without_names:
        yield None
        return
    recipe = hospital(given.seeds[0], True)
    with Run(recipe, Store(str(given.root)), STAGES, Console()) as first:
        yield first.engine()


def main() -> None:
    """Measure each hospital and print means and worst cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", required=True, type=Path)
    parser.add_argument("--seeds", required=True, type=int, nargs="+")
    parser.add_argument("--without-names", action="store_true")
    given = parser.parse_args()
    rows = []
    with one_engine(given) as engine:
        for seed in given.seeds:
            rows.append(measured(seed, given.root, engine))
            print(json.dumps({key: value for key, value in rows[-1].items() if key != "areas"}), flush=True)
    for key in (key for key, value in rows[0].items() if key != "seed" and isinstance(value, int)):
        values = [row[key] for row in rows]
        print(f"{key}: mean {np.mean(values):.2f}, worst {max(values) if key == 'false' else min(values)}")
    for label in FINDINGS:
        of = {kind: [row["areas"][kind][label] for row in rows] for kind in rows[0]["areas"]}
        print(f"{label:28s}", *(f"{kind} {np.mean(a):.3f} ({min(a):.3f})" for kind, a in of.items()))


if __name__ == "__main__":
    main()
