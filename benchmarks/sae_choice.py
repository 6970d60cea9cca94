"""The quality of the SAE chosen by `what.sweep: {choose: true}`, on test patients without part in the choice.

    python benchmarks/sae_choice.py phantom --seeds 2001 2002 --root runs/hospitals
    python benchmarks/sae_choice.py my-recipe.yaml --root runs/mine --salts a b c

All SAEs of the default grid are measured on the test patients as stage `ranking` measures them on naming patients. The
figures of the chosen one are its FVU over the least FVU of an SAE whose L0 is at most 5 % higher, and its share of the
dense probes' AUROC above chance at ten features, over the best SAE's. The same is given for the middle of the grid, the
SAE without a sweep. A small dataset is split anew for each salt, as one split of it says little.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from medsae_ray.config import Recipe, Sae, Sweep, load_recipe
from medsae_ray.core.analysis.partial_sums import Labels
from medsae_ray.core.artifacts.artifact import open_artifact
from medsae_ray.core.artifacts.columns import readable
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.sae.choice import NEAR
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from medsae_ray.stages.images import hospitals
from medsae_ray.stages.ranking import Chosen, Measured
from medsae_ray.stages.sae import settings_of


def with_choice(recipe: Recipe, seed: int | None, salt: str | None) -> Recipe:
    """The recipe with the default SAE, default grid and a choice; with other phantoms, or another split, if a seed or
    salt is given."""
    changed: dict[str, Any] = {"sae": Sae(), "sweep": Sweep(grid={}, each=[], choose=True), "naming": None}
    if seed is not None:
        changed["dataset"] = replace(hospitals(recipe)[0], seed=seed)
    if salt is not None:
        changed["split"] = recipe.what.split.model_copy(update={"salt": salt})
    how = recipe.how.model_copy(update={"engine": "loop"})
    return recipe.model_copy(update={"what": recipe.what.model_copy(update=changed), "how": how})


def measured(recipe: Recipe, root: str) -> dict[str, Any]:
    """The chosen SAE and the middle of the grid, against the best of the grid on test patients."""
    with Run(recipe, Store(root), STAGES, Console()) as run:
        ranking = run.artifact("ranking").table().to_pylist()
        embeddings, manifest = run.artifact("embeddings"), run.artifact("manifest")
        what = recipe.what
        labels = Labels.of(manifest.table(), what.uncertain, what.blank, readable(embeddings))
        middle = settings_of(Sae(), embeddings, manifest)
        rows_N = (labels.discovery_one_N & labels.training_N) | labels.test_N
        tested = Chosen.of(recipe, embeddings, manifest, labels, rows_N)
        dense_T = tested.dense()
        saes = [open_artifact(run.root.child(row["artifact"]).uri) for row in ranking]
        found = [tested.measure(sae, dense_T, 1) for sae in saes]
    at = next((i for i, sae in enumerate(saes) if sae.record.what == middle), None)
    targets_tested = int((~np.isnan(dense_T)).sum())
    return {
        "saes": len(found),
        "test patients": int(labels.test_N.sum()),
        "targets": targets_tested,
        "dense AUROC": float(np.nanmean(dense_T)) if targets_tested else None,
        "chosen": {"settings": json.loads(ranking[0]["settings"]), **compared(found, 0)},
        "at ten": [
            {"settings": json.loads(row["settings"]), "at ten": one.worth.at_ten}
            for row, one in zip(ranking, found, strict=True)
        ],
        "middle": None if at is None else {"settings": json.loads(ranking[at]["settings"]), **compared(found, at)},
    }


def compared(found: list[Measured], place: int) -> dict[str, float]:
    """One SAE against the best of the grid."""
    one = found[place]
    least = min(other.fvu for other in found if other.l0 <= NEAR * one.l0)
    return {
        "l0": one.l0,
        "fvu": one.fvu,
        "fvu over least": one.fvu / least,
        "at ten": one.worth.at_ten,
        "at ten over best": one.worth.at_ten / max(other.worth.at_ten for other in found),
        "needed": one.worth.needed,
        "least needed": min(other.worth.needed for other in found),
        "C x S": one.worth.monosemanticity,
        "best C x S": max(other.worth.monosemanticity for other in found),
    }


def main() -> None:
    """Print a JSON line for each recipe or seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe")
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", help="of phantom hospitals, each in a folder of its own")
    parser.add_argument("--salts", nargs="*", help="of splits, each in a folder of its own")
    chosen = parser.parse_args()
    for seed, salt in [*((seed, None) for seed in chosen.seeds or []), *((None, salt) for salt in chosen.salts or [])]:
        recipe = with_choice(load_recipe(chosen.recipe), seed, salt)
        found = measured(recipe, str(chosen.root / str(salt if seed is None else seed)))
        print(json.dumps({"recipe": chosen.recipe, "seed": seed, "salt": salt} | found), flush=True)


if __name__ == "__main__":
    main()
