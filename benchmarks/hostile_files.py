"""The counts, time and memory of hostile files in the stages manifest and embeddings.

python benchmarks/hostile_files.py --files 500 --seed 1
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path


def main() -> None:
    """Run the stages on hostile files in a process of its own, and print what they counted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = str(Path(folder) / "files")
        command = [sys.executable, "-m", "tests.support.hostile_run", place, str(arguments.files), str(arguments.seed)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
    if done.returncode:
        raise SystemExit(f"the run ended with {done.returncode}:\n{done.stderr[-3000:]}")
    result = json.loads(done.stdout.splitlines()[-1])
    for name, expected in result["expected"].items():
        found = Counter(result["found"][name])
        print(f"{name}: {'as expected' if found == Counter(expected) else f'expected {expected}'}")
        print("  " + ", ".join(f"{reason} {count}" for reason, count in sorted(found.items())))
    before, peak = result["peak_mib_before"], result["peak_mib"]
    print(f"{result['seconds']} s, {before} MiB before the first file, {peak} MiB at most")


if __name__ == "__main__":
    main()
