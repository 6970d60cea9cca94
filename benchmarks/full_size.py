"""Both papers' pipelines at full size without pixels: time, memory and disk of every stage that needs none.

    python benchmarks/full_size.py medsae --labels labels.parquet --root runs/medsae --set what.sae.epochs=2
    python benchmarks/full_size.py sail --root runs/sail --set what.sae.epochs=1
    python benchmarks/full_size.py sail --root runs/sail --table

`medsae` takes CheXpert's 223,414 rows of labels (see manifest_time.py), `sail` makes headers of TotalSegmentator's
909,873 slices. Embeddings are made of planted concepts. All other stages are those of `medsae run medsae-paper` and
`medsae run sail-paper` on CPUs and without names, in a process of its own that is watched. A root may be taken up
again; `--table` only prints what it holds.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from full_size_inputs import encode, plant, train_on
from full_size_scans import SLICES, plant_organs, scans_of, write_folders
from full_size_watch import stages, table, watch
from manifest_time import write_train_csv

from medsae_ray.config import load_recipe, read_change

RECIPES = {"medsae": "medsae-paper", "sail": "sail-paper"}
CLEAR = 0.9
ON_CPUS = ("how.embed.gpus=0", "how.encode.gpus=0", "how.train.gpus=0", "what.naming=null", "how.encode.actors=1")


def prepared(paper: str, root: Path, labels: Path | None, rows: int | None) -> list[str]:
    """Write the paper's external files below `root`/files, and return the recipe's changes that name them."""
    files = root / "files"
    files.mkdir(parents=True, exist_ok=True)
    (files / "weights.pt").write_bytes(b"no weights: embeddings are made")
    changes = [*ON_CPUS, f"how.paths.weights={files}/weights.pt"]
    if paper == "medsae":
        if not (files / "train.csv").exists():
            assert labels is not None, "--labels names CheXpert's labels"
            write_train_csv(labels, files, rows)
        return [*changes, f"how.paths.table={files}/train.csv", "what.dataset.views=all"]
    changes += [f"how.paths.datasets.{name}.images={files}/{name}" for name in ("ct", "mr")]
    changes += ["what.sweep=null"]
    if not (files / "mr").exists():
        write_folders(load_recipe(RECIPES[paper]), scans_of(rows or SLICES), files)
    return changes


def measure(root: Path, changes: list[str], args: argparse.Namespace) -> None:
    """Make the inputs, then the manifest and the run in watched processes of their own."""
    settings = [text for change in changes for text in ("--set", change)]
    recipe = load_recipe(RECIPES[args.paper], [read_change(change) for change in changes])
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}

    def medsae(*arguments: str) -> None:
        command = (sys.executable, "-m", "medsae_ray.cli", *arguments, RECIPES[args.paper], "--root", str(root))
        seconds = watch((*command, *settings), root / "watched", environment)
        print(f"{seconds:,.1f} s: medsae {' '.join(arguments)}", flush=True)

    if args.paper == "sail":
        plant_organs(recipe, scans_of(args.rows or SLICES), str(root))
    medsae("stage", "manifest")
    plant(recipe, str(root))
    if args.train_on:
        train_on(recipe, str(root), args.train_on)
    if args.active:
        encode(recipe, str(root), args.active)
    medsae("run")


def found(root: Path) -> dict[str, Any]:
    """Return what the run found of what was planted: labels told by one unit and by probes, and figures of the SAE."""
    summary = json.loads((root / "summary.json").read_text())
    labels = [row for row in summary["findings"].values() if row["auroc"] is not None]
    told = {
        "a feature": [row["auroc"] for row in labels],
        "a dimension": [row["dimension"]["auroc"] for row in labels],
        "a probe on all features": [row["probe"]["features"]["auroc"] for row in labels],
        "a probe on all dimensions": [row["probe"]["dimensions"]["auroc"] for row in labels],
    }
    counts = {f"AUROC of {CLEAR} by {unit}": sum((area or 0) >= CLEAR for area in of) for unit, of in told.items()}
    return {"labels tested": len(labels), **counts, **summary["sae"]}


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paper", choices=RECIPES)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--labels", type=Path, help="CheXpert's labels, a row per image")
    parser.add_argument("--rows", type=int, help="fewer rows, for a trial")
    parser.add_argument("--train-on", type=int, help="training rows of the SAE, in this process; else all, by the run")
    parser.add_argument("--active", type=int, help="with --train-on: as many made activations of an image")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    root = args.root.absolute()
    if not args.table:
        changes = [*prepared(args.paper, root, args.labels, args.rows), *args.set]
        measure(root, changes, args)
    rows = stages(root, root / "watched")
    print(table(rows))
    if (root / "summary.json").exists():
        print(json.dumps(found(root)))
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
