"""The pointing game of feature maps on phantoms, whose planted findings have known places.

    python benchmarks/heat_maps.py --root runs/patches [--json out.json]

Runs the recipe phantom-patches, or takes its existing artifacts. Each finding is tested on images of test patients with
it, one a patient. A hit is an image on which the peak of a map is a patch of the finding's place (exact) or a neighbour
of one (near). The place is the part of the film that changes if the finding is removed. The controls are the
baselines of a hit:

feature     the finding's best feature by correlation on discovery patients; inactive on an image is a miss
mass        not a hit, but the share of the best feature's activation that lies on hits, over images on which it is
            active: the tint's figure; an even map has that of `cell`
dimension   the encoder's dimension with the best correlation, along its sign: the same maps without an SAE
others      the mean over all other features that are active on the image
cell        a random patch: the share of patches that are hits
fixed       one patch for all images: the one that is most often a hit on discovery patients
pointed     the feature that points best on discovery patients, of those with half the best correlation or more: places
            chose it, so it measures the SAE and not the choice by labels

Legend: N images, T patches of an image in reading order, D encoder dimensions, M features.
"""

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console

from medsae_ray.config import Recipe, load_recipe
from medsae_ray.core.analysis.partial_sums import one_readable
from medsae_ray.core.artifacts.columns import column, readable
from medsae_ray.core.artifacts.layout import Layout, token_matrix
from medsae_ray.core.artifacts.store import Store
from medsae_ray.core.naming.scores import wilson
from medsae_ray.core.phantom import FINDINGS, Study, patient
from medsae_ray.core.phantom.render import place
from medsae_ray.core.sae.activations import load_artifact_sae, tokens_encoded
from medsae_ray.pipeline import STAGES
from medsae_ray.runtime.run import Run
from medsae_ray.stages.images import hospitals

SHARES = ("feature", "mass", "dimension", "others", "cell", "fixed", "pointed")
FILLED = 0.05
"""Share of a patch's pixels that have to change for the patch to belong to a finding's place."""


@dataclass(frozen=True)
class Images:
    """One image of each patient of some splits."""

    study_N: list[Study]
    x_NTD: np.ndarray
    z_NTM: np.ndarray

    def having(self, finding: str) -> np.ndarray:
        """Return the rows of the images that have a finding."""
        return np.flatnonzero([study.truth[finding] for study in self.study_N])


class Places(NamedTuple):
    """Where a finding is: rows of images, and whether a patch is a hit, neighbours not counted and counted [n, T]."""

    row_n: np.ndarray
    exact: np.ndarray
    near: np.ndarray


def patches_of(study: Study, finding: str, grid: tuple[int, int]) -> np.ndarray:
    """Patches [H, W] that the finding is on."""
    pixels = place(study, finding)
    height, width = (n // g for n, g in zip(pixels.shape, grid, strict=True))
    shown: np.ndarray = pixels.reshape(grid[0], height, grid[1], width).mean((1, 3)) >= FILLED
    return shown


def dilated(patches_HW: np.ndarray) -> np.ndarray:
    """With all eight neighbours."""
    high, wide = patches_HW.shape
    padded = np.pad(patches_HW, 1)
    near: np.ndarray = np.any([padded[y : y + high, x : x + wide] for y in range(3) for x in range(3)], axis=0)
    return near


def hits(map_NT: np.ndarray, place_NT: np.ndarray) -> np.ndarray:
    """bool [N]: the map's peak is in the place. A map that is 0 all over points nowhere."""
    peak_N = map_NT.argmax(1)
    rows = np.arange(len(map_NT))
    return np.asarray(place_NT[rows, peak_N] & (map_NT[rows, peak_N] != 0))


def mass(map_NT: np.ndarray, place_NT: np.ndarray) -> float:
    """Mean share of the activation that lies in the place."""
    total_N = map_NT.sum(1)
    some = total_N > 0
    return float(((map_NT * place_NT).sum(1)[some] / total_N[some]).mean())


def share_of_active(z_NTM: np.ndarray, place_NT: np.ndarray, but: int) -> float:
    """Mean over images of the share of their active features, all but one, that hit."""
    active_NM = z_NTM.max(1) > 0
    active_NM[:, but] = False
    hit_NM = np.stack([hits(z_NTM[:, :, m], place_NT) for m in range(z_NTM.shape[2])], axis=1)
    some = active_NM.any(1)
    return float(((hit_NM & active_NM).sum(1)[some] / active_NM.sum(1)[some]).mean())


def measure(finding: str, run: Run, found: Images, test: Images, grid: tuple[int, int]) -> dict[str, Any] | None:
    """The finding's rows of both tables; None without a case on which it can be seen."""
    metrics = run.artifact("features").record.metrics
    units = [[f for f in metrics[kind] if f["label"] == finding] for kind in ("findings", "raw_findings")]
    seen, rows = places(found, finding, grid), places(test, finding, grid)
    if not (all(units) and len(rows.row_n) and len(seen.row_n)):
        return None
    (best,), (raw,) = units
    r_M = correlations(run, finding)
    candidates = np.flatnonzero(r_M >= best["r"] / 2)
    x_nT = test.x_NTD[rows.row_n][:, :, raw["feature"]] * np.sign(raw["r"])
    z_nTM = test.z_NTM[rows.row_n]
    active = float((z_nTM[:, :, best["feature"]].max(1) > 0).mean())
    row = {"finding": finding, "n": len(rows.row_n), "number": best["feature"], "active": active}
    for kind in ("exact", "near"):
        found_nT, place_nT = getattr(seen, kind), getattr(rows, kind)
        pointed = best_pointer(candidates, found.z_NTM[seen.row_n], found_nT)
        row[kind] = shares(z_nTM, x_nT, place_nT, best["feature"], pointed)
        row[kind]["fixed"] = float(place_nT[:, found_nT.sum(0).argmax()].mean())
    return row


def shares(z_nTM: np.ndarray, x_nT: np.ndarray, place_nT: np.ndarray, best: int, pointed: int) -> dict[str, Any]:
    """Shares of the images that are hits, for maps that are compared."""
    hit_n = hits(z_nTM[:, :, best], place_nT)
    return {
        "feature": float(hit_n.mean()),
        "interval": wilson(int(hit_n.sum()), len(hit_n)),
        "mass": mass(z_nTM[:, :, best], place_nT),
        "dimension": float(hits(x_nT, place_nT).mean()),
        "others": share_of_active(z_nTM, place_nT, best),
        "cell": float(place_nT.mean()),
        "pointed": float(hits(z_nTM[:, :, pointed], place_nT).mean()),
        "pointer": pointed,
    }


def places(images: Images, finding: str, grid: tuple[int, int]) -> "Places":
    """Where a finding is on the images on which it can be seen."""
    all_of = {int(row): patches_of(images.study_N[row], finding, grid) for row in images.having(finding)}
    seen = {row: where for row, where in all_of.items() if where.any()}
    flat = [[where.ravel(), dilated(where).ravel()] for where in seen.values()]
    both = np.array(flat, dtype=bool).reshape(len(seen), 2, grid[0] * grid[1])
    return Places(np.array(list(seen), dtype=np.int64), both[:, 0], both[:, 1])


def correlations(run: Run, finding: str) -> np.ndarray:
    """Of every feature with the finding's label, on discovery patients [M]."""
    features = run.artifact("features")
    label = features.record.metrics["labels"].index(finding)
    return np.array([row["r"][label] for row in features.table().to_pylist() if row["space"] == "sae"])


def best_pointer(features: np.ndarray, z_NTM: np.ndarray, place_NT: np.ndarray) -> int:
    """The one of some features that hits most often."""
    return int(max(features, key=lambda m: hits(z_NTM[:, :, m], place_NT).mean()))


@torch.no_grad()
def images(run: Run, splits: tuple[str, ...]) -> Images:
    """Their studies, tokens and activations."""
    embeddings, manifest = run.artifact("embeddings"), run.artifact("manifest").table()
    chosen = one_readable(manifest, readable(embeddings)) & np.isin(column(manifest, "split").astype(str), splits)
    sae, (dataset,) = load_artifact_sae(run.artifact("sae")), hospitals(run.recipe)
    x_NTD = np.concatenate([token_matrix(embeddings.part(part.shard))[0] for part in embeddings.parts])[chosen]
    z_NTM = np.stack([tokens_encoded(sae, x_TD[None], "cpu")[1].numpy() for x_TD in x_NTD])
    study_of = {s.image_id: s for number in range(dataset.patients) for s in patient(dataset.seed, number)}
    return Images([study_of[i] for i in column(manifest, "image_id")[chosen]], x_NTD, z_NTM)


def table(rows: list[dict[str, Any]], kind: str) -> str:
    """Markdown, with a last line of means."""
    lines = [f"| {kind} | n | no. | active | {' | '.join(SHARES)} | no. |", "|---" * (len(SHARES) + 5) + "|"]
    for row in rows:
        found = row[kind]
        low, high = found["interval"]
        cells = [f"{found[name]:.2f}" for name in SHARES]
        cells[0] += f" ({low:.2f} to {high:.2f})"
        first = f"{row['finding']} | {row['n']} | {row['number']} | {row['active']:.2f}"
        lines.append(f"| {first} | {' | '.join(cells)} | {found['pointer']} |")
    means = [f"{np.mean([row[kind][name] for row in rows]):.2f}" for name in SHARES]
    return "\n".join([*lines, f"| **mean** | | | | {' | '.join(means)} | |"])


def recipe_of(dataset: dict[str, Any], sae: dict[str, Any], shard_rows: int | None) -> Recipe:
    """The packaged recipe with some settings changed."""
    recipe = load_recipe("phantom-patches")
    what = recipe.what
    assert what.dataset is not None
    changed = {"dataset": replace(hospitals(recipe)[0], **dataset), "sae": what.sae.model_copy(update=sae)}
    what = what.model_copy(update=changed | ({"shard_rows": shard_rows} if shard_rows else {}))
    return recipe.model_copy(update={"what": what, "how": recipe.how.model_copy(update={"engine": "loop"})})


def main() -> None:
    """Run the recipe, play the pointing game for each finding and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, required=True, help="where the run lies, or will")
    parser.add_argument("--dataset", type=json.loads, default={}, help='of what.dataset: {"patients": 100, "seed": 8}')
    parser.add_argument("--shard-rows", type=int, help="instead of the recipe's")
    parser.add_argument("--sae", type=json.loads, default={}, help='of what.sae: {"width": 32}')
    parser.add_argument("--json", type=Path, help="write the rows here too")
    chosen = parser.parse_args()
    recipe = recipe_of(chosen.dataset, chosen.sae, chosen.shard_rows)
    with Run(recipe, Store(str(chosen.root)), STAGES, Console(stderr=True)) as run:
        grid = Layout.of(run.artifact("embeddings").schema).grid
        assert grid is not None, "the recipe's SAE is on patches"
        run.artifact("atlas")
        found, test = images(run, ("sae", "naming")), images(run, ("detection",))
        rows = [row for row in (measure(finding, run, found, test, grid) for finding in FINDINGS) if row]
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))
    print(table(rows, "exact"), table(rows, "near"), sep="\n\n")


if __name__ == "__main__":
    main()
