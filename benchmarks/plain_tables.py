"""The time of `medsae run` through Ray on tables of paths and labels alone, compared with the encoder's.

    python benchmarks/plain_tables.py --folder runs/plain [--nih FOLDER --encoders FOLDER]

The tables have 40, 400 and 4,000 phantoms, and as many radiographs as FOLDER has (labels.csv, mobilenetv2_035.onnx).
The recipe states the columns, the encoder and its weights, but no SAE, splits or patients. "Encoder" is reading and
embedding all images in one process with as many threads, "Ray" an empty cluster's start and its first task, and
"Beyond" the run without these two.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count, islice
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from medsae_ray.core.encoders import load_encoder
from medsae_ray.core.phantom import Study, patient
from medsae_ray.core.phantom.render import render

SIZES, BATCH, THREADS = (40, 400, 4000), 32, 2
PHANTOM: dict[str, Any] = {"kind": "medclip-vit"}
MOBILENET: dict[str, Any] = {"kind": "onnx", "size": 224, "mean": 0.5, "std": 0.5}
START = "import ray; ray.init(log_to_driver=False); ray.get(ray.remote(lambda: 0).remote())"


def studies(seed: int) -> Iterator[Study]:
    """Make up studies of one patient after another, without end."""
    return (study for number in count() for study in patient(seed, number))


def draw_phantoms(folder: Path, images: int) -> Path:
    """A table of path and labels as an annotator wrote them, and the images beside it."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rows = []
    for study in islice(studies(seed=500 + images), images):
        path = f"images/{study.image_id}.png"
        Image.fromarray(render(study)).save(folder / path)
        rows.append({"path": path} | study.labels)
    return write(folder / "table.csv", rows)


def copy_radiographs(nih: Path, folder: Path, images: int) -> Path:
    """The first rows of the table without its other columns; the images stay where they are."""
    with (nih / "labels.csv").open() as stream:
        known = list(csv.DictReader(stream))
    names = list(known[0])[list(known[0]).index("finding_labels") + 1 :]
    rows = [{"path": str((nih / row["path"]).resolve())} | {name: row[name] for name in names} for row in known]
    folder.mkdir(parents=True, exist_ok=True)
    return write(folder / "table.csv", rows[:images])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV, with the keys of the first as header."""
    with path.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def recipe(table: Path, encoder: dict[str, Any], weights: str) -> dict[str, Any]:
    """Make the recipe of a table whose first column is the path and whose others are labels."""
    with table.open() as stream:
        labels = next(csv.reader(stream))[1:]
    dataset = {"kind": "table", "name": table.parent.name, "image": "path", "labels": labels}
    paths = {"table": str(table.resolve()), "images": str(table.parent.resolve()), "weights": weights}
    what = {"dataset": dataset, "encoder": encoder}
    return {"name": table.parent.name, "what": what, "how": {"paths": paths, "embed": {"threads": THREADS}}}


def encoder_s(table: Path, encoder: dict[str, Any], weights: str) -> float:
    """Measure the seconds to read and embed all images of a table in this process."""
    with table.open() as stream:
        paths = [table.parent / row["path"] for row in csv.DictReader(stream)]
    start = time.perf_counter()
    model = load_encoder(encoder["kind"], weights, threads=THREADS, **{k: v for k, v in encoder.items() if k != "kind"})
    for at in range(0, len(paths), BATCH):
        model.encode([Image.open(path).convert("L") for path in paths[at : at + BATCH]])
    return time.perf_counter() - start


def ray_s() -> float:
    """Measure the seconds that an empty cluster and its first task take."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", START], check=True, capture_output=True)
    return time.perf_counter() - start


def measured(table: Path, encoder: dict[str, Any], weights: str) -> dict[str, Any]:
    """One table: seconds, and what the summary has."""
    root, path = table.parent / "run", table.parent / "recipe.yaml"
    shutil.rmtree(root, ignore_errors=True)
    path.write_text(yaml.safe_dump(recipe(table, encoder, weights)))
    alone, ray, start = encoder_s(table, encoder, weights), ray_s(), time.perf_counter()
    command = [str(Path(sys.executable).with_name("medsae")), "run", str(path), "--root", str(root)]
    with (table.parent / "run.log").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode
    total = time.perf_counter() - start
    row = {"table": table.parent.name, "exit": code, "run": total, "encoder": alone, "ray": ray}
    return row | {"beyond": total - alone - ray} | (found(root) if code == 0 else {})


def found(root: Path) -> dict[str, Any]:
    """Read the figures of a finished run from its summary."""
    summary = json.loads((root / "summary.json").read_text())
    areas = [row["auroc"] for row in summary["findings"].values() if row["auroc"] is not None]
    return {
        "R2": summary["sae"]["r2"],
        "L0": summary["sae"]["l0"],
        "findings": len(areas),
        "best": max(areas, default=None),
        "warnings": [warning["code"] for warning in summary["warnings"]],
    }


def main() -> None:
    """Make the tables, run the recipe on each and print one row of JSON per table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--nih", type=Path)
    parser.add_argument("--encoders", type=Path)
    given = parser.parse_args()
    tables = [
        (draw_phantoms(given.folder / f"phantoms-{n}", n), PHANTOM, "builtin:phantom-encoder") for n in given.sizes
    ]
    if given.nih and given.encoders:
        network = str((given.encoders / "mobilenetv2_035.onnx").resolve())
        tables += [(copy_radiographs(given.nih, given.folder / f"nih-{n}", n), MOBILENET, network) for n in given.sizes]
    for table in tables:
        row = measured(*table)
        print(json.dumps({k: round(v, 2) if isinstance(v, float) else v for k, v in row.items()}), flush=True)


if __name__ == "__main__":
    main()
