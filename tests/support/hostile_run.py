"""Hostile files through manifest and embeddings: python -m tests.support.hostile_run FOLDER COUNT SEED.

Prints one JSON object: what was counted and expected for each dataset, seconds, and the process's peak memory.
"""

import json
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from medsae_ray.config import parse_recipe
from medsae_ray.pipeline import run_stage
from tests.support.hostile_files import GOOD
from tests.support.hostile_folder import hostile_folder

DATASETS: dict[str, dict[str, Any]] = {
    "dicom": {"kind": "dicom", "name": "hostile"},
    "images": {"kind": "table", "name": "hostile", "image": "path", "patient": "patient", "labels": ["label"]},
    "volumes": {"kind": "totalsegmentator"},
}


def counted(folder: Path, name: str, root: Path) -> Counter[str]:
    """Reasons of the embeddings and of the manifest's notes, and the rows that are good."""
    paths = {"images": str(folder / name), "weights": "builtin:phantom-encoder"}
    if name == "images":
        paths["table"] = str(folder / name / "table.csv")
    what = {"dataset": DATASETS[name], "encoder": {"kind": "medclip-vit"}, "shard_rows": 64}
    recipe = parse_recipe({"name": "hostile", "what": what, "how": {"engine": "loop", "paths": paths}})
    manifest = run_stage(recipe, str(root / name), "manifest")
    embeddings = run_stage(recipe, str(root / name), "embeddings").record
    found = Counter(embeddings.not_ok) + Counter(manifest.record.metrics.get("notes", {}).get("passed_over", {}))
    return found + Counter({GOOD: embeddings.rows - sum(embeddings.not_ok.values())})


def main(folder: Path, count: int, seed: int) -> dict[str, Any]:
    expected = hostile_folder(folder, count, seed)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    found = {name: counted(folder, name, folder / "runs") for name in expected}
    return {
        "found": found,
        "expected": expected,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mib_before": before // 1024,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))))
