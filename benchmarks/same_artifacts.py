"""A comparison of two checkouts' artifacts of every packaged recipe: names, and the SHA-256 of every file.

    python benchmarks/same_artifacts.py BEFORE AFTER

Each recipe runs on a small sample of its dataset, made once by this checkout: phantoms as whole runs without naming,
all others up to the embeddings. Exit status 1 if anything differs. Logs of training are left out, as they hold seconds.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

HERE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HERE))
from tests.stages.test_recipes import LAID_OUT, small  # noqa: E402 - found once the checkout is on the path

PATIENTS = 240
KEY = "SAME_ARTIFACTS_KEY"
"""Variable with the key that identifiers are hashed with: each root would draw its own."""
Artifacts = dict[str, dict[str, str]]


def recipe_in(folder: Path, name: str) -> Path:
    """Write a small copy of a packaged recipe and of its dataset into a new folder."""
    folder.mkdir()
    LAID_OUT[name](folder)
    file = small(name, folder)
    data = yaml.safe_load(file.read_text())
    for source in data["what"].get("datasets", [data["what"].get("dataset")]):
        if source["kind"] == "phantom":
            source["patients"] = PATIENTS
    data["how"]["id_key"] = {"variable": KEY}
    file.write_text(yaml.safe_dump(data))
    return file


def artifacts(checkout: Path, recipe: Path, root: Path) -> Artifacts:
    """Artifact -> file -> SHA-256, as `checkout` makes them."""
    whole = recipe.parent.name.startswith("phantom")
    arguments = ["run", str(recipe)] if whole else ["stage", "embeddings", str(recipe)]
    done = subprocess.run(
        [sys.executable, "-m", "medsae_ray.cli", *arguments, "--root", str(root)],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1", KEY: "00ff" * 16},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        sys.exit(f"{checkout}: {recipe.parent.name} failed:\n{done.stderr[-2000:]}")
    records = [json.loads(path.read_text()) for path in root.glob("*/record.json")]
    return {
        r["name"]: {f["name"]: f["sha256"] for f in r["files"] if not f["name"].startswith("log-")} for r in records
    }


def differences(before: Artifacts, after: Artifacts) -> list[str]:
    """Name the artifacts that only one side has, and those whose files differ."""
    found = [f"{name}: only one checkout makes it" for name in sorted(before.keys() ^ after.keys())]
    shared = sorted(before.keys() & after.keys())
    return found + [f"{name}: its files differ" for name in shared if before[name] != after[name]]


def main() -> int:
    """Compare each recipe and return 1 if anything differs, else 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("--recipes", nargs="+", default=sorted(LAID_OUT), choices=sorted(LAID_OUT))
    given = parser.parse_args()
    differ = 0
    for name in given.recipes:
        with tempfile.TemporaryDirectory() as work:
            recipe = recipe_in(Path(work) / name, name)
            made = [
                artifacts(side.resolve(), recipe, Path(work) / end)
                for side, end in zip((given.before, given.after), "ab", strict=True)
            ]
        lines = differences(*made)
        differ += bool(lines)
        files = sum(map(len, made[0].values()))
        print(f"{name}: " + ("; ".join(lines) or f"{len(made[0])} artifacts, {files} files, all the same"), flush=True)
    return 1 if differ else 0


if __name__ == "__main__":
    sys.exit(main())
