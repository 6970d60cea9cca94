"""The time and memory of making a manifest of CheXpert's labels, for which no image is read.

    python benchmarks/manifest_time.py labels.parquet

`labels.parquet` has a row per image of CheXpert's training set: patient_id, study_id, view, Sex, Age, Frontal/Lateral,
AP/PA and the 14 labels. It is written as the train.csv that Stanford publishes, from which the manifest is made.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from medsae_ray.config import parse_recipe
from medsae_ray.core.datasets.labels import CHEXPERT as LABELS
from medsae_ray.pipeline import run_stage


def write_train_csv(labels: Path, folder: Path, rows: int | None = None) -> Path:
    """The published layout: Path, four columns about the image, 14 labels of 1.0, 0.0, -1.0 or blank.

    `rows` takes only the first ones.
    """
    table = pq.read_table(labels).slice(0, rows)
    patient = pc.utf8_lpad(pc.cast(table["patient_id"], pa.string()), 5, "0")
    study, view = (pc.cast(table[c], pa.string()) for c in ("study_id", "view"))
    side = pc.utf8_lower(pc.cast(table["Frontal/Lateral"], pa.string()))
    parts = ("CheXpert-v1.0-small/train/patient", patient, "/study", study, "/view", view, "_", side, ".jpg")
    path = pc.binary_join_element_wise(*parts, "")
    about = {c: table[c] for c in ("Sex", "Age", "Frontal/Lateral", "AP/PA")}
    file = folder / "train.csv"
    pacsv.write_csv(pa.table({"Path": path, **about, **{label: table[label] for label in LABELS}}), file)
    return file


def manifest(table: str, root: str) -> None:
    """Make the manifest in this process and print what it took."""
    dataset = {"kind": "chexpert", "views": "all"}
    what = {"dataset": dataset, "encoder": {"kind": "medclip-vit"}}
    recipe = parse_recipe({"name": "time", "what": what, "how": {"paths": {"table": table}, "engine": "loop"}})
    start = time.perf_counter()
    made = run_stage(recipe, root, "manifest")
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{made.record.rows:,} rows in {len(made.parts)} shards: {seconds:.1f} s, peak {peak:.2f} GB")
    print(json.dumps(json.loads(made.file("audit"))))


def main(labels: str) -> None:
    """Write train.csv from `labels`, then make the manifest of it in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        table = write_train_csv(Path(labels), Path(folder))
        subprocess.run([sys.executable, __file__, str(table), f"{folder}/run"], check=True)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 2 else manifest(*sys.argv[1:])
